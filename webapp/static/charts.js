// Draws charts in the page's own colours, and saves them and tables as pictures.
"use strict";

const plotlyAddress = document.currentScript.dataset.plotly;
let loading = null;

// Plotly is large: the page is readable, and updated, while it loads. After a failure, the next call
// loads it again.
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: plotlyAddress });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("the charts' script did not load"));
    });
    document.head.append(script);
  });
  return loading;
}

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

// One point is no line: a share holds from the start until then, and an average is a dot.
function overTime(trace) {
  const x = trace.x.map(inZone);
  if (x.length !== 1) return { ...trace, x };
  if (!trace.stackgroup) return { ...trace, x, mode: "markers", marker: { size: 9, color: trace.line.color } };
  return { ...trace, x: [startedAt(), ...x], y: [...trace.y, ...trace.y] };
}

function startedAt() {
  const { dataset } = document.querySelector("[data-started-at]");
  return inZone(new Date(1000 * dataset.startedAt).toISOString());
}

function styled(figure, width) {
  const ink = token("--ink-quiet");
  const line = token("--line");
  const layout = structuredClone(figure.layout);
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink };
  layout.hoverlabel = { bgcolor: token("--raised"), bordercolor: line, font: { color: token("--ink") } };
  if (figure.data[0]?.type === "table") return { data: figure.data.map(styledTable), layout };
  layout.xaxis = { ...layout.xaxis, linecolor: line, tickcolor: line, showline: true, nticks: 7, gridcolor: line };
  layout.yaxis = { ...layout.yaxis, gridcolor: line, zerolinecolor: line, nticks: 6 };
  for (const label of layout.annotations || []) label.font = { color: token("--ink"), size: 12 };
  if (width < 620) {
    layout.annotations = [];
    layout.margin = { ...layout.margin, l: 44, r: 8 };
    layout.xaxis.nticks = 4;
  } else if (layout.annotations) {
    layout.margin = { ...layout.margin, r: labelRoom(layout.annotations) };
  }
  const dated = layout.xaxis.type === "date";
  if (dated) layout.xaxis.tickformatstops = [{ dtickrange: [null, 1000], value: "%H:%M:%S" }];
  const data = figure.data.map((trace) => (dated ? overTime(trace) : trace));
  if (dated && data.length && data.every((trace) => trace.x.length === 1)) {
    const [from, until] = [startedAt(), data[0].x[0]].map((moment) => new Date(moment).getTime());
    layout.xaxis.range = [from, until + (until - from) / 20];
  }
  return { data, layout };
}

function styledTable(trace) {
  const line = { color: token("--line"), width: 1 };
  const fill = { color: token("--paper") };
  const font = { color: token("--ink"), size: 13 };
  return {
    ...trace,
    header: { ...trace.header, line, fill, font: { ...font, color: token("--ink-quiet") } },
    cells: { ...trace.cells, line, fill, font },
  };
}

function labelRoom(labels) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const width = (text) => pen.measureText(text).width;
  let widest = 0;
  for (const label of labels) {
    const [, mark, fullName] = label.text.match(/^(.*<\/span>)(.*)$/s);
    const name = shortName(fullName, (text) => width(text) <= 230);
    label.text = mark + name;
    widest = Math.max(widest, width(name));
  }
  return widest + 32;
}

// Of a version's parts the longest is cut: the others may be all that tells it from the next.
function shortName(name, fits) {
  const parts = name.split(" · ");
  while (!fits(parts.join(" · ")) && parts.some((part) => part.length > 2)) {
    const longest = parts.reduce((best, part, i) => (part.length > parts[best].length ? i : best), 0);
    parts[longest] = `${parts[longest].replace(/…$/, "").slice(0, -1).trimEnd()}…`;
  }
  return parts.join(" · ");
}

// A picture carries its title, since it leaves the page with the headings.
async function savePicture(figure, title, name) {
  const Plotly = await plotly();
  const { data, layout } = styled(figure, 1200);
  const height = layout.height || 560;
  const campaign = document.querySelector("h1").textContent;
  layout.paper_bgcolor = token("--paper");
  layout.title = { text: plain(`${campaign}: ${title}`), x: 0.02, xanchor: "left" };
  layout.margin = { ...layout.margin, t: 56 };
  const url = await Plotly.toImage({ data, layout }, { format: "png", width: 1200, height, scale: 2 });
  Object.assign(document.createElement("a"), { href: url, download: `${name}.png` }).click();
}

// Plotly reads a little HTML.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// Figures whose data is in the page; the colours of text and grid are set here.
async function drawFigures() {
  const elements = document.querySelectorAll("[data-figure]");
  if (!elements.length) return;
  const Plotly = await plotly();
  for (const element of elements) {
    const { data, layout } = JSON.parse(element.dataset.figure);
    layout.font = { ...layout.font, size: 12, color: token("--ink-quiet") };
    layout.hoverlabel = { bgcolor: token("--raised"), font: { color: token("--ink") } };
    for (const label of layout.annotations || []) label.font = { color: token("--ink"), size: 12 };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.gridcolor = token("--line");
      axis.zerolinecolor = token("--line-strong");
      axis.fixedrange = true;
    }
    if (element.clientWidth < 620) {
      layout.annotations = [];
      layout.margin = { ...layout.margin, l: 52, r: 8 };
      layout.showlegend = true;
      layout.legend = { orientation: "h", y: -0.45 };
      for (const trace of data) trace.showlegend = Boolean(trace.name);
    }
    element.replaceChildren();
    Plotly.newPlot(element, data, layout, { displayModeBar: false, responsive: true });
    const button = document.querySelector(`[data-figure-png="${element.id}"]`);
    if (button) {
      button.hidden = false;
      const size = { width: 1200, height: layout.height || 560, scale: 2 };
      button.onclick = () => Plotly.downloadImage(element,
        { format: "png", ...size, filename: button.dataset.figureName || "plan" });
    }
  }
}

drawFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
for (const button of document.querySelectorAll("[data-picture]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const title = document.getElementById(button.dataset.pictureOf).textContent;
    savePicture(JSON.parse(button.dataset.picture), title, button.dataset.pictureName);
  });
}
