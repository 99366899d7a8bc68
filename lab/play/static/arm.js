// The arm pane: PPO learns to reach, and an arm shows in real time what it has learned so far.
// Frames: "state" is the arm, "curve" is the training. Lengths are meters in messages and centimeters on the page.

import { chart } from "./chart.js";
import { buttonRow, choice, element, inWriting, paneShape, setAttribute, svg, wholeNumber, write } from "./dom.js";

const REACH = 0.2; // meters: targets are within it
const VIEW = 0.24; // meters from the center of the drawing to its edge
const KEYS = { ArrowLeft: [-0.01, 0], ArrowRight: [0.01, 0], ArrowUp: [0, 0.01], ArrowDown: [0, -0.01] };
const POLICIES = {
  learning: "the policy that is learning now",
  trained: "the trained model of the lab",
  controller: "inverse kinematics + PD, written by hand",
};
const DETAILS = {
  "": "nothing",
  bootstrap_at_time_limit: "1: bootstrapping at the time limit",
  normalize_observations: "2: normalized observations",
  scale_rewards: "3: scaled rewards",
  normalize_advantages: "4: normalized advantages",
  orthogonal_initialization: "5: orthogonal initial weights",
  anneal_learning_rate: "6: the learning rate's decay",
  clip_gradients: "7: clipped gradients",
  use_clipping: "8: the clipped objective",
};
const MAX_SEED = 2 ** 31 - 1;
const isStill = window.matchMedia("(prefers-reduced-motion: reduce)"); // one frame a second then

let lab = null;
const view = {};
let target = null; // [x, y] in meters, once the user has taken it
let arm = null; // the newest frame of the arm
let drawnAt = 0;
let hasFailed = false; // the training: Start begins another one then
let announced = 0; // the last iteration that was announced

// --- building the pane --------------------------------------------------------------------------

export function mount(root, given) {
  lab = given;
  const actions = { Start: start, Pause: () => lab.send({ do: "pause" }), Step: step, Reset: () => restart(false) };
  root.append(...paneShape({
    title: "An arm learns to reach",
    explanation: "PPO trains a policy to turn two joints so that the fingertip (filled dot) gets to the target (ring). "
      + "The arm moves in real time with the newest weights: take the target and move it, also while the policy learns. "
      + "One job runs at a time: opening another pane ends the training.",
    lesson: "/lesson/arm/#from-policy-gradient-to-ppo-step-by-step",
    stage: [buttonRow(actions), drawing(),
      element("p", { class: "numbers", id: "arm-keys" }, "Drag the target, or focus it and use the arrow keys."),
      policyChooser(), targetFields()],
    controls: [settings(), ...curves()],
  }));
}

function drawing() {
  view.links = svg("polyline", { class: "link" });
  view.elbow = svg("circle", { class: "joint", r: 0.008 });
  view.fingertip = svg("circle", { class: "fingertip", r: 0.009 });
  const take = (event) => event.preventDefault(); // a finger that starts here does not scroll
  view.target = svg("g", { class: "target", ontouchstart: take }, svg("circle", { class: "grip", r: 0.045 }),
    svg("circle", { r: 0.014 }), svg("path", { d: "M-0.022 0H0.022M0 -0.022V0.022" }));
  view.svg = svg("svg", { viewBox: `${-VIEW} ${-VIEW} ${2 * VIEW} ${2 * VIEW}`, role: "img", "aria-label": "arm and target" },
    svg("g", { transform: "scale(1 -1)" }, svg("circle", { class: "within", r: REACH }),
      view.links, svg("circle", { class: "joint", r: 0.01 }), view.elbow, view.fingertip, view.target));
  view.caption = element("p", { class: "numbers" }, "Waiting for the arm …");
  view.handle = element("div", { class: "handle", role: "application", tabindex: 0, "aria-label": "Target of the arm",
    "aria-describedby": "arm-keys", onpointerdown: grab, onpointermove: drag, onpointerup: save, onclick: moveHere,
    onkeydown: press, onkeyup: save }, view.svg);
  return element("div", {}, view.handle, view.caption);
}

function policyChooser() {
  view.policies = Object.entries(POLICIES).map(([value, label]) =>
    choice("radio", label, { name: "arm-policy", value, onchange: () => choose(value) }));
  return element("fieldset", {}, element("legend", {}, "Who moves the arm"), view.policies.map(({ root }) => root));
}

function targetFields() {
  const field = () => element("input", { type: "number", min: -100 * REACH, max: 100 * REACH, step: 0.5, onchange: typed });
  [view.x, view.y] = [field(), field()];
  return element("fieldset", {}, element("legend", {}, "Target, in centimeters from the shoulder"),
    element("label", {}, "x ", view.x), element("label", {}, "y ", view.y));
}

function settings() {
  view.seed = wholeNumber("Random seed", 0, MAX_SEED, 0, () => restart(false));
  view.without = element("select", { onchange: () => restart(false) },
    ...Object.entries(DETAILS).map(([value, label]) => element("option", { value }, label)));
  return element("div", { class: "settings" }, view.seed.root, element("label", {}, "Leave out ", view.without));
}

function curves() {
  view.progress = element("p", { class: "numbers" });
  const returns = { ticks: [-50, -20, -10, -5, -2], height: 160, scale: (value) => -Math.log(-value) };
  const hundredths = { ticks: [0, 0.02, 0.04, 0.06], format: (value) => value.toFixed(2) };
  const percent = { ticks: [0, 0.2, 0.4, 0.6], format: (value) => `${Math.round(100 * value)}%` };
  view.returns = chart("Mean return per episode, exploring", "steps", returns);
  view.kl = chart("KL divergence of an update", "steps", hundredths);
  view.clipped = chart("Fraction of clipped ratios", "steps", percent);
  const normal = element("a", { href: "/lesson/arm/#is-my-run-normal", target: "_blank" }, "Is my run normal?");
  return [view.progress, view.returns.root, view.kl.root, view.clipped.root, element("p", {}, normal)];
}

// --- what the user does ---------------------------------------------------------------------------

function start() {
  if (hasFailed || arm?.is_over) return restart(true);
  if (!arm?.has_learned) choose("learning");
  lab.send({ do: "resume" });
}

function step() {
  if (!arm?.has_learned) choose("learning");
  lab.send({ do: "step" });
}

function restart(running) {
  hasFailed = false;
  arm = null;
  announced = 0;
  if (running) check("learning");
  lab.send({ do: "start", running, policy: chosen(), seed: view.seed.get(), without: view.without.value });
  if (target) sendTarget();
  save();
}

function chosen() {
  return view.policies.find(({ input }) => input.checked).input.value;
}

function check(policy) {
  for (const { input } of view.policies) input.checked = input.value === policy;
}

function choose(policy) {
  check(policy);
  lab.send({ do: "policy", policy });
  save();
}

function save() {
  const state = { seed: view.seed.get(), policy: chosen() };
  if (view.without.value) state.without = view.without.value;
  if (target) [state.x, state.y] = target.map(centimeters);
  lab.save(state);
}

// --- the target -------------------------------------------------------------------------------------

// The mouse takes the target from anywhere. A finger that starts elsewhere than at the target scrolls, or taps.
function grab(event) {
  if (event.pointerType !== "mouse" && !view.target.contains(event.target)) return;
  view.handle.setPointerCapture(event.pointerId);
  moveHere(event);
}

function drag(event) {
  if (view.handle.hasPointerCapture(event.pointerId)) moveHere(event);
}

function moveHere(event) {
  const box = view.svg.getBoundingClientRect();
  moveTarget([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    .map((share, axis) => (axis ? -1 : 1) * (2 * share - 1) * VIEW));
  if (event.type === "click") save();
}

function press(event) {
  const by = KEYS[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own keys
  event.preventDefault();
  const from = target ?? arm?.target ?? [0, 0];
  moveTarget([from[0] + by[0], from[1] + by[1]]);
  lab.announce(`target at x ${centimeters(target[0])}, y ${centimeters(target[1])} centimeters`);
}

function typed() {
  moveTarget([view.x, view.y].map((field) => Number(field.value) / 100));
  save();
}

function within([x, y]) {
  const shrink = Math.min(1, REACH / Math.max(Math.hypot(x, y), 1e-9));
  return [x * shrink, y * shrink];
}

function moveTarget(point) {
  target = within(point);
  sendTarget();
  drawTarget(target);
}

function sendTarget() {
  lab.send({ do: "target", x: target[0], y: target[1] });
}

function centimeters(meters) {
  return Math.round(1000 * meters) / 10;
}

// --- what the worker shows ----------------------------------------------------------------------------

export function open(state) {
  const point = [Number(state.x) / 100, Number(state.y) / 100];
  target = point.every(Number.isFinite) ? within(point) : null;
  view.seed.set(state.seed ?? 0);
  view.without.value = Object.hasOwn(DETAILS, state.without ?? "") ? state.without ?? "" : "";
  check(Object.hasOwn(POLICIES, state.policy ?? "") ? state.policy : "trained");
}

export function ready() {
  restart(false);
}

export function show(frame) {
  if (frame.kind === "error") {
    hasFailed = frame.message !== "";
  } else if (frame.kind === "curve") {
    showCurve(frame);
  } else {
    arm = frame;
    if (isStill.matches && performance.now() - drawnAt < 1000) return;
    drawnAt = performance.now();
    drawArm(frame);
  }
}

function drawArm({ elbow, fingertip, ...frame }) {
  setAttribute(view.links, "points", `0,0 ${elbow} ${fingertip}`);
  for (const [shape, [x, y]] of [[view.elbow, elbow], [view.fingertip, fingertip]]) {
    setAttribute(shape, "cx", x);
    setAttribute(shape, "cy", y);
  }
  drawTarget(target ?? frame.target);
  write(view.caption, captionOf(frame));
}

function captionOf(frame) {
  if (frame.policy === "learning" && !frame.has_learned) return "This policy has learned nothing yet: press Start.";
  const attempt = frame.attempt > 1 ? `, attempt ${frame.attempt}: it starts again, straight, as in its training` : "";
  return `Fingertip to target: ${centimeters(frame.distance).toFixed(1)} cm${attempt}`;
}

function drawTarget(point) {
  setAttribute(view.target, "transform", `translate(${point})`);
  for (const [field, value] of [[view.x, centimeters(point[0])], [view.y, centimeters(point[1])]]) {
    if (field !== document.activeElement && field.value !== String(value)) field.value = value;
  }
}

function showCurve(frame) {
  const end = frame.iterations * frame.steps_per_iteration;
  const column = (number) => frame.rows.map((row) => [row[1], row[number]]);
  const lines = Object.entries(frame.lines).map(([name, value]) => [value, `${name} ${inWriting(value, 2)}`]);
  view.returns.draw(column(2), lines, end);
  view.kl.draw(column(3), [], end);
  view.clipped.draw(column(4), [], end);
  const text = progressOf(frame);
  write(view.progress, text);
  if (frame.iteration < announced + 20) return;
  announced = frame.iteration;
  lab.announce(text);
}

function progressOf(frame) {
  if (!frame.rows.length) return "Not trained yet: Start trains, Step does one iteration.";
  const [iteration, steps, mean, kl, clipped] = frame.rows.at(-1);
  return `Iteration ${iteration} of ${frame.iterations}, ${inWriting(steps)} steps: return ${inWriting(mean, 2)}, `
    + `KL ${inWriting(kl, 3)}, clipped ${Math.round(100 * clipped)}%`;
}
