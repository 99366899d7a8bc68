// The maze pane. (A first version: buttons and numbers.)

import { element, paneShape } from "./dom.js";

let lab = null;
const view = {};
const settings = { learning_rate: 0.5, discount: 0.95, epsilon: 1, epsilon_decay: 0.98, slip: 0 };

export function mount(root, given) {
  lab = given;
  view.numbers = element("p", { class: "numbers" });
  root.append(...paneShape({
    title: "A mouse learns a maze",
    explanation: "The mouse tries actions and remembers how much reward followed.",
    lesson: "/lesson/maze/",
    stage: [view.numbers],
    controls: [element("div", { class: "buttons" },
      element("button", { class: "main", onclick: () => start(true) }, "Start"),
      element("button", { onclick: () => lab.send({ do: "pause" }) }, "Pause"),
      element("button", { onclick: () => lab.send({ do: "step" }) }, "Step"),
      element("button", { onclick: () => start(false) }, "Reset"))],
  }));
}

function start(running) {
  lab.send({ do: "start", layout: ["S...", ".X..", "..X.", "...G"], seed: 0, running, steps_per_second: 100, ...settings });
}

export function open() {}

export function ready() {
  start(false);
}

export function show(frame) {
  if (frame.kind === "state") view.numbers.textContent = `episode ${frame.episode}, step ${frame.step}`;
}
