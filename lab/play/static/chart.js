// A small chart of one curve over the steps of a training, with reference lines.

import { element, svg } from "./dom.js";

const WIDTH = 360;
const LEFT = 44; // of the axis of y
const BOTTOM = 18; // of the axis of x, from below

// `ticks` are values of y, the first and the last its range; `scale` makes equal distances of it; `format` writes a tick.
// Returns {root, draw(points, endOfX, {name: value of a reference line})}.
export function chart(title, { ticks, height = 100, scale = (value) => value, format = String }) {
  const [low, high] = [scale(ticks[0]), scale(ticks.at(-1))];
  const yOf = (value) => {
    const share = (Math.min(Math.max(scale(value), low), high) - low) / (high - low);
    return height - BOTTOM - share * (height - BOTTOM - 8);
  };
  const inner = svg("g");
  const root = element("figure", { class: "chart" }, element("figcaption", {}, title));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": title },
    ...ticks.map((tick) => tickLine(yOf(tick), format(tick))), inner);
  root.append(drawing);

  const draw = (points, end, lines) => {
    const xOf = (x) => LEFT + (x / end) * (WIDTH - LEFT - 4);
    const shown = points.filter(([, y]) => y !== null && Number.isFinite(scale(y)));
    inner.replaceChildren(
      ...[0, end / 2, end].map((x, number) => xLabel(xOf(x), height - 4, x, number)),
      ...Object.entries(lines).flatMap(([name, value]) => referenceLine(`${name} ${value.toFixed(2)}`, yOf(value), height)),
      svg("polyline", { class: "curve", points: shown.map(([x, y]) => `${xOf(x).toFixed(1)},${yOf(y).toFixed(1)}`).join(" ") }));
    const newest = shown.length ? [`newest ${Number(shown.at(-1)[1].toPrecision(3))}`] : [];
    const references = Object.entries(lines).map(([name, value]) => `${name} ${value.toFixed(2)}`);
    drawing.setAttribute("aria-label", [title, ...newest, ...references].join(", "));
  };
  return { root, draw };
}

function tickLine(y, text) {
  return svg("g", { class: "tick" }, svg("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y }),
    svg("text", { x: LEFT - 4, y: y + 4, "text-anchor": "end" }, text));
}

function xLabel(x, y, steps, number) {
  const text = steps.toLocaleString("en") + (number === 2 ? " steps" : "");
  return svg("text", { x, y, "text-anchor": ["start", "middle", "end"][number] }, text);
}

// Its label stands where a rising curve is not: at the left of a high line, at the right of a low one.
function referenceLine(label, y, height) {
  const place = y < height / 2 ? { x: LEFT + 4 } : { x: WIDTH - 4, "text-anchor": "end" };
  return [svg("line", { class: "reference", x1: LEFT, x2: WIDTH, y1: y, y2: y }), svg("text", { ...place, y: y - 4 }, label)];
}
