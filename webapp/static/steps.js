// Script of the form's steps: saves while a person types, and shows a subject line as in a phone's
// inbox.
"use strict";

const QUIET_MS = 900;

function autosave(form) {
  const status = document.querySelector("[data-saved]");
  let timer = 0;
  let saving = null;
  let dirty = false;
  let refused = false;
  let unsaved = false; // the last attempt failed: leaving would lose text

  async function save({ last = false } = {}) {
    clearTimeout(timer);
    if (!dirty || refused) return saving;
    if (saving && !last) await saving;
    dirty = false;
    const body = new URLSearchParams(new FormData(form));
    body.set("do", "autosave");
    status.textContent = "Saving…";
    // A request that outlives its page may not be large.
    const keepalive = last && body.toString().length < 60000;
    saving = fetch(form.action, {
      method: "POST", body, keepalive, headers: { "X-Requested-With": "fetch" },
    }).then(async (answer) => {
      if (answer.status === 409) {
        refused = unsaved = true;
        const { by } = await answer.json();
        status.textContent = `Not saved: ${by} changed this step. Press Continue to see both.`;
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const { base, address } = await answer.json();
      form.elements.base.value = base;
      if (form.getAttribute("action") !== address) {
        form.setAttribute("action", address);
        history.replaceState(null, "", address);
      }
      unsaved = false;
      status.textContent = "Saved";
    }).catch(() => {
      dirty = unsaved = true;
      status.textContent = "Not saved yet: the server does not answer. What you typed stands here.";
      timer = setTimeout(save, 5 * QUIET_MS);
    });
    await saving;
    saving = null;
  }

  beforeReading.push(save);
  form.addEventListener("input", () => {
    dirty = true;
    clearTimeout(timer);
    timer = setTimeout(save, QUIET_MS);
  });
  // A button waits for the running save: otherwise the two would conflict.
  form.addEventListener("submit", async (event) => {
    clearTimeout(timer);
    dirty = unsaved = false;
    if (!saving) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    await saving;
    saving = null;
    form.requestSubmit(event.submitter);
  }, { capture: true });
  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") save({ last: true });
  });
}

// Returns true if the person changed a field before this script was loaded.
function touched(field) {
  if (field.options) {
    const before = [...field.options].findIndex((option) => option.defaultSelected);
    return field.selectedIndex !== Math.max(before, 0);
  }
  if (field.type === "checkbox" || field.type === "radio") {
    return field.checked !== field.defaultChecked;
  }
  return Boolean(field.value) && "defaultValue" in field && field.value !== field.defaultValue;
}

function inboxes(form) {
  const show = () => {
    for (const inbox of form.querySelectorAll("[data-inbox]")) {
      const text = document.getElementById(inbox.dataset.inbox).value.trim();
      inbox.querySelector("b").textContent = text || "What the inbox shows";
      inbox.querySelector("[data-length]").textContent = String([...text].length);
    }
  };
  form.addEventListener("input", show);
  new MutationObserver(show).observe(form, { childList: true });
}

for (const form of document.querySelectorAll("form[data-rows]")) {
  if ("autosave" in form.dataset) autosave(form);
  inboxes(form);
  // Text that was typed before this script was loaded is saved too.
  if ([...form.elements].some(touched)) form.dispatchEvent(new Event("input"));
}
