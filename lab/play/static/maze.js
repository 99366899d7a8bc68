// The maze pane: Q-learning as it happens, in a maze that can be changed meanwhile.

import { chart } from "./chart.js";
import { atMostEvery, buttonRow, choice, element, inWriting, paneShape, slider, wholeNumber, write } from "./dom.js";
import { KINDS, MazeGrid } from "./maze_grid.js";

const LABS_MAZE = ["S...", ".X..", "..X.", "...G"];
const MAX_SIDE = 64;
const LARGE_SIDE = 12; // a larger maze may not fit into the window
const MAX_SEED = 2 ** 31 - 1;
const FASTEST = 5000; // steps per second
const FIRST_SPEED = 200;
const SPOKEN_EVERY = 5000; // milliseconds, while it learns
const SLIDERS = { // label, and what the slider needs
  learning_rate: ["Learning rate α", { min: 0.01, max: 1, step: 0.01, value: 0.5 }],
  discount: ["Discount γ", { min: 0, max: 1, step: 0.01, value: 0.95 }],
  epsilon: ["Initial ε", { min: 0, max: 1, step: 0.01, value: 1 }],
  epsilon_decay: ["Decay of ε", { min: 0.9, max: 1, step: 0.001, value: 0.98 }],
  slip: ["Slip", { min: 0, max: 0.5, step: 0.01, value: 0 }],
};
const motion = matchMedia("(prefers-reduced-motion: reduce)");

let lab = null;
let layout = LABS_MAZE;
let newest = null; // frame
let drawing = null; // asked for
let isRunning = false;
let hasJob = false; // of the worker; an error ends it
let isOther = false; // the address asks for another maze or other settings than those that were left
let spoken = { at: 0, step: 0 }; // milliseconds; step
const view = {};

// --- building --------------------------------------------------------------------------------------

export function mount(root, given) {
  lab = given;
  view.grid = new MazeGrid(edit, () => write(view.cell, view.grid.describe()));
  view.numbers = element("p", { class: "numbers" }, "Waiting for the mouse …");
  view.cell = element("p", { class: "numbers", id: "maze-cell" });
  view.curve = chart("Return (sum of rewards) of an episode", "episodes", { height: 200 });
  view.newest = element("button", { type: "button", onclick: drawSoon }, "Show the newest");
  const actions = { Start: () => run(true), Pause: () => run(false), Step: step, Reset: () => start(false) };
  root.append(...paneShape({
    title: "A mouse learns a maze",
    explanation: "The dot is a mouse that looks for the goal: +10 for reaching it, −1 for every other step. "
      + "Each cell shows what it has learned from its own steps alone: the action that it thinks best there (arrow) "
      + "and the reward that it expects from there on (number, and shade). Press Start, and draw walls while it learns.",
    lesson: "/lesson/maze/#from-equation-to-code",
    stage: [buttonRow(actions, view.newest), view.numbers, view.grid.root, view.cell, tools()],
    controls: [view.curve.root, ...settings(), sizes()],
  }));
  view.problem = root.querySelector(".problem");
  motion.addEventListener("change", updateMotion);
  updateMotion();
  setLayout(layout);
}

// What a click does, and what the keys do.
function tools() {
  const kinds = ["X", "S", "G"].map((kind) => choice("radio", KINDS[kind],
    { name: "tool", checked: kind === "X", onchange: () => (view.grid.tool = kind) }));
  view.optimum = choice("checkbox", "Show the exact optimum (value iteration)",
    { onchange: () => change({ do: "optimum", optimum: view.optimum.input.checked }) });
  view.fits = choice("checkbox", "Fit the whole maze", { onchange: () => view.grid.fit(view.fits.input.checked) });
  return element("div", { class: "tools" },
    element("fieldset", {}, element("legend", {}, "A click in the maze makes"), kinds.map((each) => each.root)),
    element("p", { class: "numbers" },
      "Keys in the maze: arrows move, space makes or removes a wall, s sets the start, g a goal."),
    view.optimum.root, view.fits.root);
}

function settings() {
  view.speed = slider("Speed (steps/s)", {
    min: 0, max: 1, step: 0.01, value: positionOf(FIRST_SPEED), format: (position) => inWriting(speedAt(position)),
    onchange: () => change({ do: "speed", steps_per_second: speed() }),
  });
  view.sliders = Object.fromEntries(Object.entries(SLIDERS).map(([name, [label, range]]) => {
    const message = () => (name === "epsilon" ? { do: name, epsilon: values().epsilon } : { do: "settings", ...agent() });
    return [name, slider(label, { ...range, onchange: () => change(message()) })];
  }));
  return [view.speed.root, ...Object.values(view.sliders).map((each) => each.root)];
}

function sizes() {
  view.rows = wholeNumber("Rows", 1, MAX_SIDE, 4, resize);
  view.columns = wholeNumber("Columns", 1, MAX_SIDE, 4, resize);
  view.seed = wholeNumber("Seed", 0, MAX_SEED, 0, () => start(isRunning));
  return element("div", { class: "sizes" }, view.rows.root, view.columns.root, view.seed.root,
    buttonRow({ "The lab's maze": () => replace(LABS_MAZE), "Empty room": emptyRoom, "Random maze": randomMaze }));
}

// --- what the controls say ------------------------------------------------------------------------------

// The slider of the speed is logarithmic, its position from 0 to 1.
function speedAt(position) {
  return Number((FASTEST ** position).toPrecision(2));
}

function positionOf(stepsPerSecond) {
  return Math.log(stepsPerSecond) / Math.log(FASTEST);
}

function speed() {
  return speedAt(view.speed.get());
}

function values() {
  return Object.fromEntries(Object.entries(view.sliders).map(([name, each]) => [name, each.get()]));
}

function agent() {
  const { epsilon, ...others } = values();
  return others;
}

function change(message) {
  lab.send(message);
  save();
}

// --- the state in the address ------------------------------------------------------------------------

function save() {
  const optimum = Number(view.optimum.input.checked);
  lab.save({ maze: layout.join("_"), seed: view.seed.get(), speed: speed(), optimum, ...values() });
}

export function open(state) {
  const before = JSON.stringify(job(false));
  const rows = (state.maze ?? "").split("_");
  const isRow = (row) => /^[S.XG]{1,64}$/.test(row) && row.length === rows[0].length;
  if (rows.length <= MAX_SIDE && rows.every(isRow)) setLayout(rows);
  for (const [name, [, { min, max }]] of Object.entries(SLIDERS)) {
    const value = Number.parseFloat(state[name]);
    if (value >= min && value <= max) view.sliders[name].set(value);
  }
  if (/^\d+$/.test(state.seed) && Number(state.seed) <= MAX_SEED) view.seed.set(state.seed);
  if (state.speed >= 1 && state.speed <= FASTEST) view.speed.set(positionOf(Number(state.speed)));
  if (state.optimum) view.optimum.input.checked = state.optimum === "1";
  isOther = JSON.stringify(job(false)) !== before;
}

// --- the job ---------------------------------------------------------------------------------------------

// The worker keeps the maze that was left for another pane, paused.
export function ready() {
  start(false, isOther ? "start" : "return");
}

// Forget everything and begin again; "return": continue, if there is anything to continue.
function start(running, action = "start") {
  isRunning = running;
  hasJob = true;
  isOther = false;
  lab.send({ do: action, ...job(running) });
  if (view.optimum.input.checked) lab.send({ do: "optimum", optimum: true });
  save();
}

function job(running) {
  return { layout, seed: view.seed.get(), running, steps_per_second: speed(), ...values() };
}

function run(running) {
  isRunning = running;
  if (!hasJob) start(running);
  else lab.send({ do: running ? "resume" : "pause" });
}

function step() {
  isRunning = false;
  if (!hasJob) start(false);
  lab.send({ do: "step" });
}

// --- changes of the maze ----------------------------------------------------------------------------------

function setLayout(rows) {
  layout = rows;
  view.grid.setLayout(rows);
  view.rows.set(rows.length);
  view.columns.set(rows[0].length);
  view.fits.root.hidden = Math.max(rows.length, rows[0].length) <= LARGE_SIDE;
}

const sendLayout = atMostEvery(50, () => {
  if (hasJob) lab.send({ do: "layout", layout });
  else start(isRunning);
});

function edit(index, kind) {
  const cells = layout.map((row) => [...row]);
  if (kind === "S") cells.forEach((row) => row.includes("S") && row.splice(row.indexOf("S"), 1, "."));
  cells[Math.floor(index / layout[0].length)][index % layout[0].length] = kind;
  setLayout(cells.map((row) => row.join("")));
  lab.announce(view.grid.describe());
  sendLayout();
  save();
}

// Another maze instead: what has been learned does not apply to it.
function replace(rows) {
  setLayout(rows);
  start(isRunning);
}

function resize() {
  const fields = [view.rows, view.columns];
  if (!fields.every(({ input }) => input.checkValidity())) return;
  replace(withEnds(fields.map(({ get }) => get()), (row, column) => layout[row]?.[column] ?? "."));
}

function emptyRoom() {
  replace(withEnds([layout.length, layout[0].length], () => "."));
}

// A maze of so many rows and columns; where no start or goal is left, they are put into the corners.
function withEnds(size, kindAt) {
  const [rows, columns] = size.map((length) => [...Array(length).keys()]);
  const cells = rows.map((row) => columns.map((column) => kindAt(row, column)));
  if (!cells.flat().includes("S")) cells[0][0] = "S";
  if (!cells.flat().includes("G")) cells.at(-1)[columns.length - 1] = "G";
  return cells.map((row) => row.join(""));
}

function randomMaze() {
  view.seed.set(Math.floor(Math.random() * 10000));
  lab.send({ do: "random", rows: layout.length, columns: layout[0].length, seed: view.seed.get() });
}

// --- frames ---------------------------------------------------------------------------------------------

export function show(frame) {
  if (frame.kind === "random") {
    replace(frame.layout);
  } else if (frame.kind === "error") {
    hasJob = false;
  } else {
    hasJob = true;
    newest = frame;
    if (!motion.matches || !frame.is_running) drawSoon();
  }
}

// Draw when the browser does: where that takes long, only the newest frame is drawn.
function drawSoon() {
  drawing ??= requestAnimationFrame(() => {
    drawing = null;
    if (newest) draw(newest);
  });
}

function draw(frame) {
  write(view.problem, frame.problem);
  write(view.numbers, numbersOf(frame));
  view.grid.draw(frame);
  write(view.cell, view.grid.describe());
  const best = 11 - frame.shortest; // -1 for every step but the last, which brings 10
  view.curve.draw(frame.curve, frame.problem ? [] : [[best, `shortest path: ${inWriting(best)}`]]);
  speak(frame);
}

function numbersOf(frame) {
  const state = frame.problem ? "Waiting" : frame.is_running ? "Learning" : "Paused";
  const last = frame.episode ? `, the last ${lengthOf(frame)}` : "";
  const [steps, episodes] = [frame.step, frame.episode].map((number) => inWriting(number));
  return `${state}: step ${steps}, ε ${frame.epsilon.toFixed(2)}; ${episodes} episodes${last}`;
}

function lengthOf(frame) {
  if (!frame.reached_goal) return `${frame.length} steps without the goal`;
  if (frame.length === frame.shortest) return `${frame.length} steps, the shortest`;
  return `${frame.length} steps (shortest: ${frame.shortest})`;
}

function speak(frame) {
  const isNewEpisode = frame.is_running && frame.episode > 0 && Date.now() - spoken.at > SPOKEN_EVERY;
  const isNewStep = !frame.is_running && frame.step > 0 && frame.step !== spoken.step;
  if (!isNewEpisode && !isNewStep) return;
  spoken = { at: Date.now(), step: frame.step };
  lab.announce(frame.is_running
    ? `episode ${frame.episode}: ${lengthOf(frame)}`
    : `step ${frame.step}: the mouse is in ${view.grid.nameOf(frame.state)}`);
}

function updateMotion() {
  view.newest.hidden = !motion.matches;
}
