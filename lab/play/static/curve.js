// A curve with axes, and horizontal lines to compare it with.

import { svg } from "./dom.js";

const HEIGHT = 240;
const LEFT = 48; // room for the numbers at the axes
const RIGHT = 24;
const TOP = 40;
const BOTTOM = 40;

// Round numbers between two others, about four of them.
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(6)));
}

function inWriting(number) {
  return number.toLocaleString("en").replace("-", "−");
}

// `x` and `y` name the axes. `draw(points, lines)`: points [[x, y], ...], lines [{y, label}, ...].
export function curve(x, y) {
  const root = svg("svg", { class: "curve", role: "img", height: HEIGHT });
  let width = 400;
  new ResizeObserver(() => (width = root.clientWidth || width)).observe(root); // to ask while drawing would be slow

  function draw(points, lines) {
    const ys = [0, ...points.map((point) => point[1]), ...lines.map((line) => line.y)];
    const [low, high] = [Math.min(...ys) - 1, Math.max(...ys) + 1];
    const last = Math.max(10, points.at(-1)?.[0] ?? 0);
    const right = width - RIGHT;
    const bottom = HEIGHT - BOTTOM;
    const atX = (value) => LEFT + (value / last) * (right - LEFT);
    const atY = (value) => bottom - ((value - low) / (high - low)) * (bottom - TOP);
    root.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    root.setAttribute("aria-label", summary(points, lines));
    root.replaceChildren(
      ...ticks(low, high).flatMap((value) => [
        svg("line", { class: "tick", x1: LEFT, x2: right, y1: atY(value), y2: atY(value) }),
        svg("text", { x: LEFT - 6, y: atY(value) + 4, "text-anchor": "end" }, inWriting(value)),
      ]),
      ...ticks(0, last).map((value) =>
        svg("text", { x: atX(value), y: bottom + 16, "text-anchor": "middle" }, inWriting(value))),
      svg("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: bottom }),
      svg("line", { class: "axis", x1: LEFT, x2: right, y1: bottom, y2: bottom }),
      svg("text", { x: 2, y: 14 }, y),
      svg("text", { x: (LEFT + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, x),
      points.length === 1
        ? svg("circle", { class: "line", cx: atX(points[0][0]), cy: atY(points[0][1]), r: 2 })
        : svg("polyline", { class: "line", points: points.map(([a, b]) => `${atX(a)},${atY(b)}`).join(" ") }),
      ...lines.flatMap((line) => [
        svg("line", { class: "reference", x1: LEFT, x2: right, y1: atY(line.y), y2: atY(line.y) }),
        svg("text", { class: "reference", x: right, y: atY(line.y) - 5, "text-anchor": "end" }, line.label),
      ]),
    );
  }

  function summary(points, lines) {
    const end = points.length ? `at ${x} ${Math.round(points.at(-1)[0])}: ${points.at(-1)[1].toFixed(1)}` : "nothing yet";
    return [`${y}; ${end}`, ...lines.map((line) => line.label)].join("; ");
  }

  return { root, draw };
}
