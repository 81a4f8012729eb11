// Script of every page; all pages work without it.
"use strict";

function localTimes(root) {
  const format = new Intl.DateTimeFormat(undefined, {
    day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  });
  const withYear = new Intl.DateTimeFormat(undefined, {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const thisYear = new Date().getFullYear();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.textContent = (moment.getFullYear() === thisYear ? format : withYear).format(moment);
    element.title = full.format(moment);
  }
}

// Dates are typed in the viewer's zone: the field shows it, and its offset is sent along.
function zoned(root) {
  const local = (moment) =>
    new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19).replace(/:00$/, "");
  for (const input of root.querySelectorAll("[data-moment]")) {
    const offset = document.getElementById(input.dataset.moment);
    input.parentElement.querySelector("[data-zone]").textContent =
      Intl.DateTimeFormat().resolvedOptions().timeZone;
    const typed = input.value !== input.defaultValue; // before this script was loaded: in this zone, not in UTC
    if (input.value && !typed) {
      const moment = new Date(Date.parse(`${input.value}Z`) - Number(offset.value) * 60000);
      if (-moment.getTimezoneOffset() !== Number(offset.value)) {
        input.defaultValue = input.value = local(moment); // as if the server had sent it
      }
    }
    const measure = () => {
      offset.value = input.value ? String(-new Date(input.value).getTimezoneOffset()) : "0";
    };
    input.addEventListener("input", measure);
    measure();
  }
}

function copyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
}

// Row buttons send the whole form and get it back with a row more or less. With script the answer
// replaces the form in place, so that the page does not jump.
function formWithRows(form) {
  form.addEventListener("submit", async (event) => {
    const button = event.submitter;
    const action = button && button.name === "do" ? button.value : "";
    if (button && button.name === "preview") return;
    if (!/^(add|remove|paste) |^advise$/.test(action)) {
      window.removeEventListener("beforeunload", warn);
      return;
    }
    event.preventDefault();
    let answer;
    try {
      answer = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form, button)),
        headers: { "X-Requested-With": "fetch" },
      });
    } catch {
      answer = null;
    }
    if (!answer || ![200, 422].includes(answer.status)) {
      window.removeEventListener("beforeunload", warn);
      const hidden = Object.assign(document.createElement("input"),
        { type: "hidden", name: "do", value: action });
      form.append(hidden);
      form.submit();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const before = new Set([...form.querySelectorAll("[id]")].map((e) => e.id));
    const answered = fresh.querySelector("form[data-rows]");
    form.replaceChildren(...answered.childNodes);
    if (answered.hasAttribute("action") && answered.getAttribute("action") !== form.getAttribute("action")) {
      form.setAttribute("action", answered.getAttribute("action"));
      history.replaceState(null, "", form.getAttribute("action"));
    }
    zoned(form);
    const added = [...form.querySelectorAll("input, textarea, select")]
      .find((e) => e.id && !before.has(e.id) && e.type !== "radio" && e.type !== "hidden");
    const next = added || form.querySelector("[aria-invalid]") || form.querySelector(".section");
    if (next) next.focus({ preventScroll: !added });
  });
  const warn = (event) => event.preventDefault();
  if ("autosave" in form.dataset) return; // such a form is saved by itself
  form.addEventListener("input", () => window.addEventListener("beforeunload", warn), { once: true });
}

localTimes(document);
copyButtons();
zoned(document);
for (const form of document.querySelectorAll("form[data-rows]")) formWithRows(form);
const summary = document.querySelector("[data-focus]");
if (summary) summary.focus();

// Progress is shown while a job runs; once it is over, the whole page is loaded again, after typed
// text is saved.
const beforeReading = [];

async function poll(region) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, Number(region.dataset.poll)));
    let answer;
    try {
      answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
    } catch {
      continue;
    }
    if (!answer.ok) return location.reload();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = fresh.querySelector("[data-poll]");
    if (!next) {
      await Promise.all(beforeReading.map((save) => save()));
      return location.reload();
    }
    region.replaceChildren(...next.childNodes);
  }
}

for (const region of document.querySelectorAll("[data-poll]")) poll(region);
