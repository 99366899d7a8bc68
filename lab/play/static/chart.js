// A chart of one curve, with horizontal lines to compare it with.

import { element, inWriting, setAttribute, svg } from "./dom.js";

const WIDTH = 400;
const LEFT = 52; // room for the numbers at the axes
const TOP = 8;
const BOTTOM = 20;

// About four round numbers that `low` and `high` are between.
function roundNumbers(low, high) {
  const rough = (high - low || 4) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const first = Math.floor(low / step);
  const last = Math.max(Math.ceil(high / step), first + 1); // never a range of nothing
  return Array.from({ length: last - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(6)));
}

// `unit`: of x. `ticks`: fixed values of y, of which the first and the last are its range; else they follow the points.
// `scale` makes equal distances of y; `format` writes a tick.
// Returns {root, draw(points [[x, y], ...], lines [[y, label], ...], end of x)}.
export function chart(title, unit, { ticks = null, height = 120, scale = (y) => y, format = (y) => inWriting(y) }) {
  const axes = svg("g");
  const curve = svg("polyline", { class: "curve" });
  const newest = svg("circle", { class: "newest", r: 2.5 });
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img" }, axes, curve, newest);
  const root = element("figure", { class: "chart" }, element("figcaption", {}, title), drawing);
  let drawn = ""; // the axes and lines that are there

  function draw(points, lines, end = null) {
    const shown = points.filter(([, y]) => y !== null && Number.isFinite(scale(y)));
    const all = [0, ...shown.map(([, y]) => y), ...lines.map(([y]) => y)];
    const ys = ticks ?? roundNumbers(Math.min(...all), Math.max(...all));
    const xs = roundNumbers(0, end ?? Math.max(10, shown.at(-1)?.[0] ?? 0));
    const [low, high, right] = [scale(ys[0]), scale(ys.at(-1)), end ?? xs.at(-1)];
    const atX = (x) => LEFT + (x / right) * (WIDTH - LEFT - 8);
    const atY = (y) => {
      const share = (Math.min(Math.max(scale(y), low), high) - low) / (high - low);
      return height - BOTTOM - share * (height - BOTTOM - TOP);
    };
    const wanted = JSON.stringify([xs, ys, lines, end]);
    if (wanted !== drawn) {
      const inside = xs.filter((x) => x <= right);
      axes.replaceChildren(...ys.map((y) => tickOfY(atY(y), format(y))),
        ...inside.slice(0, -1).map((x) => textAt(atX(x), height - 5, "middle", inWriting(x))),
        textAt(WIDTH, height - 5, "end", `${inWriting(inside.at(-1))} ${unit}`),
        ...lines.flatMap(([y, label]) => reference(atY(y), height, label)));
      drawn = wanted;
    }
    curve.setAttribute("points", shown.map(([x, y]) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`).join(" "));
    const [x, y] = shown.at(-1) ?? [0, 0];
    setAttribute(newest, "transform", `translate(${atX(x).toFixed(1)} ${atY(y).toFixed(1)})`);
    newest.classList.toggle("none", !shown.length);
    const last = shown.length ? `${inWriting(y, 2)} at ${inWriting(x)} ${unit}` : "nothing yet";
    setAttribute(drawing, "aria-label", [`${title}; ${last}`, ...lines.map(([, label]) => label)].join("; "));
  }
  return { root, draw };
}

function textAt(x, y, anchor, text) {
  return svg("text", { x, y, "text-anchor": anchor }, text);
}

function tickOfY(y, text) {
  return svg("g", { class: "tick" }, svg("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y }), textAt(LEFT - 4, y + 4, "end", text));
}

// Its label stands where a rising curve is not: at the left of a high line, at the right of a low one; above it, if
// there is room.
function reference(y, height, label) {
  const textY = y > TOP + 10 ? y - 4 : y + 12;
  const text = y < height / 2 ? textAt(LEFT + 4, textY, "start", label) : textAt(WIDTH - 8, textY, "end", label);
  return [svg("line", { class: "reference", x1: LEFT, x2: WIDTH, y1: y, y2: y }), text];
}
