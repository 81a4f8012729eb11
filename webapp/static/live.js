// Updates an experiment's page and its charts without moving the text that is being read.
"use strict";

const live = document.querySelector("[data-live-from]");
const charts = new Map();
const shown = new WeakMap();
let etag = "";
let state = "";
let failures = 0;

// A chart is drawn once Plotly is loaded. A table of the server has no element for a chart: it is
// drawn only to be saved.
function draw(name, figure) {
  if (!figure.data.length) return;
  charts.set(name, figure);
  const button = document.querySelector(`[data-png="${name}"]`);
  if (button) button.hidden = false;
  const element = document.querySelector(`[data-chart="${name}"]`);
  if (!element || element.closest("details:not([open])")) return; // it has no width
  element.classList.remove("empty");
  plotly().then((Plotly) => {
    element.querySelector(".waiting")?.remove();
    const { data, layout } = styled(charts.get(name), element.clientWidth);
    Plotly.react(element, data, layout, { displayModeBar: false, responsive: true });
  }).catch(() => {}); // the table beneath has the same figures, and the next update tries again
}

function redraw() {
  for (const [name, figure] of charts) draw(name, figure);
}

function isReading(region) {
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.anchorNode
    && region.contains(selection.anchorNode));
}

// Open details stay open, and the focus stays where it was, when a region is replaced.
function replaceRegion(region, html) {
  const open = [...region.querySelectorAll("details[open][id]")].map((e) => e.id);
  const focused = region.contains(document.activeElement) && document.activeElement;
  const kind = focused && focused.tagName.toLowerCase();
  const place = focused ? [...region.querySelectorAll(kind)].indexOf(focused) : -1;
  region.innerHTML = html;
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (place >= 0) region.querySelectorAll(kind)[place]?.focus({ preventScroll: true });
}

// A region is replaced only when it differs, and not while text in it is selected.
function update(content) {
  for (const [name, html] of Object.entries(content.parts)) {
    const region = document.querySelector(`[data-live="${name}"]`);
    if (!region || shown.get(region) === html || isReading(region)) continue;
    const scrolled = [region.scrollLeft, region.scrollTop];
    replaceRegion(region, html);
    shown.set(region, html);
    localTimes(region);
    [region.scrollLeft, region.scrollTop] = scrolled;
  }
  for (const [name, figure] of Object.entries(content.charts)) draw(name, figure);
}

async function refresh() {
  const lost = document.querySelector("[data-live-lost]");
  try {
    const answer = await fetch(live.dataset.liveFrom, {
      headers: { "X-Requested-With": "fetch", ...(etag && { "If-None-Match": etag }) },
    });
    if (answer.status === 401) return location.reload();
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(String(answer.status));
      etag = answer.headers.get("ETag") || "";
      const content = await answer.json();
      if (state && content.state !== state) return location.reload();
      state = content.state;
      update(content);
    }
    failures = 0;
  } catch {
    failures += 1;
  }
  lost.hidden = failures < 2;
}

async function loop() {
  const every = Number(live.dataset.liveEvery) * 1000;
  for (;;) {
    if (!document.hidden) await refresh();
    if (!("liveOn" in live.dataset)) return;
    await new Promise((resolve) => setTimeout(resolve, every * Math.min(2 ** failures, 8)));
  }
}

for (const button of document.querySelectorAll("[data-png]")) {
  const name = button.dataset.png;
  button.addEventListener("click", () => {
    savePicture(charts.get(name), document.querySelector(`#${name}-title`).textContent, name);
  });
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}
for (const details of document.querySelectorAll("[data-chart-inside]")) {
  details.addEventListener("toggle", () => {
    const figure = charts.get(details.dataset.chartInside);
    if (details.open && figure) draw(details.dataset.chartInside, figure);
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if ((width < 700) !== (innerWidth < 700)) redraw();
  width = innerWidth;
});
loop();
