// Loss, AUC and speed of runs against the training step, one above the other. Everything is drawn from the model's
// state: a page that is opened again shows the same.

const PANELS = [
  { title: "log loss (nats)", height: 150, lines: [["steps", "loss", "thin"], ["tested", "log_loss", "thick"]] },
  { title: "validation AUC", height: 150, lines: [["tested", "auc", "thick"]] },
  { title: "rows/s", height: 72, lines: [["steps", "speed", "thin"]], zero: true },
];
const [LEFT, RIGHT, TOP, GAP, BOTTOM] = [64, 10, 8, 16, 36];
const HEIGHT = TOP + PANELS.reduce((sum, panel) => sum + panel.height + GAP, 0) - GAP + BOTTOM;

function add(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return parent.appendChild(node);
}

// Round numbers, about so many, within [low, high].
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough);
  const first = Math.ceil(low / step), found = [];
  for (let at = first; at * step <= high + step / 1e6; at++) found.push(at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return found.map(value => [value, label(value, digits)]);
}

function label(value, digits) {
  return value >= 10000 ? `${+(value / 1000).toPrecision(4)}k` : value.toFixed(digits);
}

// The values of a panel's lines; the upper end leaves out what has run away, so that the rest can be seen.
function range(panel, runs) {
  const values = runs.flatMap(run => panel.lines.flatMap(([, name]) => run[name])).filter(Number.isFinite);
  if (!values.length) return null;
  values.sort((a, b) => a - b);
  const low = panel.zero ? 0 : values[0];
  const high = Math.min(values.at(-1), low + 4 * (values[Math.floor(0.6 * values.length)] - low) || values.at(-1));
  const margin = 0.06 * (high - low) || 0.01 * (high || 1);
  return [panel.zero ? 0 : low - margin, high + margin];
}

function draw(svg, runs, width, id) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const right = width - RIGHT;
  const last = Math.max(10, ...runs.flatMap(run => [...run.steps, ...run.tested]));
  const x = step => LEFT + (right - LEFT) * step / last;
  const steps = ticks(0, last, Math.max(2, width / 110));
  let top = TOP;
  for (const [at, panel] of PANELS.entries()) {
    const bottom = top + panel.height, ends = range(panel, runs);
    for (const [step] of steps) add(svg, "line", { class: "grid", x1: x(step), x2: x(step), y1: top, y2: bottom });
    add(svg, "line", { class: "axis", x1: LEFT, x2: right, y1: bottom, y2: bottom });
    const middle = (top + bottom) / 2;
    add(svg, "text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, panel.title);
    const clip = add(svg, "clipPath", { id: `${id}-${at}` });
    add(clip, "rect", { x: LEFT, y: top - 4, width: right - LEFT + 6, height: panel.height + 8 });
    if (ends) {
      const y = value => bottom - panel.height * (value - ends[0]) / (ends[1] - ends[0]);
      for (const [value, text] of ticks(...ends, panel.height / 34)) {
        add(svg, "line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) });
        add(svg, "text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, text);
      }
      for (const run of [...runs].reverse()) for (const [when, what, kind] of panel.lines) {
        const points = run[when].map((step, i) => [x(step), y(run[what][i])]).filter(([, y]) => Number.isFinite(y));
        const line = { class: `curve ${kind}`, stroke: run.color, "clip-path": `url(#${id}-${at})`, "data-run": run.name };
        add(svg, "polyline", { ...line, points: points.map(point => point.join(",")).join(" ") });
        if (kind === "thick") for (const [cx, cy] of points) {
          add(svg, "circle", { cx, cy, r: 2.6, fill: run.color, "clip-path": line["clip-path"] });
        }
      }
    }
    top = bottom + GAP;
  }
  for (const [step, text] of steps) {
    add(svg, "text", { x: x(step), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, text);
  }
  add(svg, "text", { x: (LEFT + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "step");
  return { step: at => last * (at - LEFT) / (right - LEFT), x };
}

// What a run was like at a step: the point of each line that is nearest to it.
function nearest(run, step) {
  const at = (when, what) => {
    const places = run[when].keys().toArray?.() ?? [...run[when].keys()];
    if (!places.length) return null;
    const place = places.reduce((best, i) => Math.abs(run[when][i] - step) < Math.abs(run[when][best] - step) ? i : best);
    return run[what][place];
  };
  const parts = [["loss", at("steps", "loss"), 4], ["validation", at("tested", "log_loss"), 4],
    ["AUC", at("tested", "auc"), 5], ["rows/s", at("steps", "speed"), 0]];
  return parts.filter(([, value]) => Number.isFinite(value)).map(
    ([name, value, digits]) => `${name} ${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`
  ).join(" · ");
}

function render({ model, el }) {
  const id = `curves-${crypto.randomUUID()}`;
  const legend = document.createElement("div"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  legend.className = "legend";
  svg.setAttribute("height", HEIGHT);
  svg.setAttribute("width", "100%");
  el.classList.add("dlrm-curves");
  el.append(legend, svg);
  let scale, cursor = null;

  function explain() {
    legend.replaceChildren(...model.get("runs").map(run => {
      const line = document.createElement("div"), name = document.createElement("b");
      name.textContent = run.name;
      name.style.setProperty("--color", run.color);
      line.append(name, cursor === null ? "" : ` ${nearest(run, cursor)}`);
      return line;
    }));
    legend.classList.toggle("reading", cursor !== null);
  }

  function redraw() {
    if (!el.clientWidth) return;  // not on the page
    scale = draw(svg, model.get("runs"), el.clientWidth, id);
    explain();
  }

  svg.addEventListener("mousemove", event => {
    const step = scale?.step(event.clientX - svg.getBoundingClientRect().left);
    cursor = step >= 0 ? Math.round(step) : null;
    svg.querySelector(".cursor")?.remove();
    if (cursor !== null) {
      add(svg, "line", { class: "cursor", x1: scale.x(cursor), x2: scale.x(cursor), y1: TOP, y2: HEIGHT - BOTTOM });
    }
    explain();
  });
  svg.addEventListener("mouseleave", () => { cursor = null; redraw(); });
  model.on("change:runs", redraw);
  const observer = new ResizeObserver(redraw);
  observer.observe(el);
  return () => { observer.disconnect(); model.off("change:runs", redraw); };
}

export default { render };
