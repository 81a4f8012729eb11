// Keeps an experiment's page up to date, and draws its charts, without moving what is being read.
"use strict";

const live = document.querySelector("[data-live-from]");
const charts = new Map();
const shown = new WeakMap();
let etag = "";
let state = "";
let failures = 0;

function token(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// Plotly shows times as they are written, so they are written in the reader's zone.
function inZone(iso) {
  const moment = new Date(iso);
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

// One point is no line: shares hold from the start until then, and an average is a dot.
function overTime(trace) {
  const x = trace.x.map(inZone);
  if (x.length !== 1) return { ...trace, x };
  if (!trace.stackgroup) return { ...trace, x, mode: "markers", marker: { size: 9, color: trace.line.color } };
  const started = inZone(new Date(1000 * live.dataset.startedAt).toISOString());
  return { ...trace, x: [started, ...x], y: [...trace.y, ...trace.y] };
}

function styled(figure, element) {
  const ink = token("--ink-quiet");
  const line = token("--line");
  const layout = structuredClone(figure.layout);
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink };
  layout.xaxis = { ...layout.xaxis, linecolor: line, tickcolor: line, showline: true, nticks: 7 };
  layout.yaxis = { ...layout.yaxis, gridcolor: line, zerolinecolor: line, nticks: 6 };
  layout.hoverlabel = { bgcolor: token("--raised"), bordercolor: line, font: { color: token("--ink") } };
  for (const label of layout.annotations || []) label.font = { color: token("--ink"), size: 12 };
  const narrow = element.clientWidth < 620;
  if (narrow) {
    layout.annotations = [];
    layout.margin = { ...layout.margin, l: 44, r: 8 };
    layout.xaxis.nticks = 4;
  } else {
    layout.margin = { ...layout.margin, r: labelRoom(layout.annotations || []) };
  }
  const dated = layout.xaxis.type === "date";
  if (dated) layout.xaxis.tickformatstops = [{ dtickrange: [null, 1000], value: "%H:%M:%S" }];
  const data = figure.data.map((trace) => (dated ? overTime(trace) : trace));
  return { data, layout };
}

function labelRoom(labels) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const width = (text) => pen.measureText(text).width;
  let widest = 0;
  for (const label of labels) {
    let [, mark, name] = label.text.match(/^(.*<\/span>)(.*)$/s);
    while (width(name) > 230) name = `${name.replace(/…$/, "").slice(0, -1).trimEnd()}…`;
    label.text = mark + name;
    widest = Math.max(widest, width(name));
  }
  return widest + 32;
}

function draw(name, figure) {
  if (!window.Plotly || !figure.data.length) return;
  const fresh = !charts.has(name);
  charts.set(name, figure);
  const button = document.querySelector(`[data-png="${name}"]`);
  if (button) button.hidden = false;
  const element = document.querySelector(`[data-chart="${name}"]`);
  if (!element) return; // a table, drawn by the server, that becomes a picture only to be saved
  if (fresh) element.replaceChildren();
  const { data, layout } = styled(figure, element);
  window.Plotly.react(element, data, layout, { displayModeBar: false, responsive: true });
}

function redraw() {
  for (const [name, figure] of charts) draw(name, figure);
}

async function savePng(name) {
  const title = document.querySelector(`#${name}-title`).textContent;
  const figure = charts.get(name);
  const { data, layout } = styled(figure, { clientWidth: 1200 });
  const height = layout.xaxis.type === "date" ? 560 : 120 + 36 * figure.data.length;
  layout.paper_bgcolor = token("--paper");
  layout.title = { text: `${document.querySelector("h1").textContent}: ${title}`, x: 0.02, xanchor: "left" };
  layout.margin.t = 56;
  const url = await window.Plotly.toImage({ data, layout }, { format: "png", width: 1200, height, scale: 2 });
  const link = Object.assign(document.createElement("a"), { href: url, download: `${name}.png` });
  link.click();
}

function isReading(region) {
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.anchorNode
    && region.contains(selection.anchorNode));
}

// What was open stays open, and what had the focus keeps it, though the region is written anew.
function replaced(region, html) {
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

// Each region is replaced only when it differs, and not while somebody marks text in it.
function update(content) {
  for (const [name, html] of Object.entries(content.parts)) {
    const region = document.querySelector(`[data-live="${name}"]`);
    if (!region || shown.get(region) === html || isReading(region)) continue;
    const scrolled = [region.scrollLeft, region.scrollTop];
    replaced(region, html);
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
  button.addEventListener("click", () => savePng(button.dataset.png));
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if ((width < 700) !== (innerWidth < 700)) redraw();
  width = innerWidth;
});
loop();
