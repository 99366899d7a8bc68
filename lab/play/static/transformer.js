// The transformer pane: a sentence, what the model makes of it, and what comes next.

import { attentionView, percent, tokenRow, visible } from "./attention.js";
import { buttonRow, choice, element, paneShape, slider, wholeNumber, write } from "./dom.js";
import { nextTokens, sentiment } from "./prediction.js";

const EXAMPLES = {
  generation: "The old man looked at the sea and",
  sentiment: "A wonderful film, funny and moving from start to finish.",
};
const MAX_TEXT = 10000; // characters that are sent
const DEFAULTS = { temperature: 0.8, top_k: 0, top_p: 1, speed: 5, seed: 0 };
const LIMITS = { temperature: [0, 2], top_k: [0, 100], top_p: [0.05, 1], speed: [1, 30], seed: [0, 2 ** 31 - 1] };
const HEADS = { // that show something
  generation: { layer: 3, head: 1, causal: true },
  sentiment: { layer: 1, head: 7, causal: true },
};
const SECOND_HEAD = { layer: 0, head: 0, causal: true };

let lab = null;
let task = "generation";
let number = 0; // of the newest job; frames of older ones are not shown
let timer = null; // of the job that starts soon, after the last key
let wasOpened = false;
let typed = ""; // the sentence without what the model has added
let frame = null; // the one that is shown
let chosen = null; // position of the chosen token; null: the one that the result is computed from
let isStopped = false; // the job has ended with a problem
let newest = null; // with reduced motion: the frame that is shown next
const view = {};

// --- what the pane holds --------------------------------------------------------------------------

export function mount(root, given) {
  lab = given;
  view.root = root;
  view.box = element("textarea", { rows: 3, maxlength: MAX_TEXT, dir: "auto", spellcheck: "false", oninput: onTyped });
  view.note = element("p", { class: "numbers" }, "Loading the models …");
  view.tokens = tokenRow(choose);
  view.first = attentionView(
    { layer: "Layer", head: "Head", causal: "Causal mask", table: "Attention weights" }, onHeads, choose);
  const second = { layer: "Second layer", head: "Second head", causal: "Second causal mask" };
  view.second = attentionView({ ...second, table: "Attention weights of the second head" }, onHeads, choose);
  view.compare = choice("checkbox", "Compare with a second head", { onchange: onHeads });
  view.tokensTitle = element("h3");
  view.next = nextTokens((id) => act({ do: "take", id }));
  view.sentiment = sentiment();
  view.results = element("div", { hidden: true },
    view.tokensTitle, view.tokens.root, view.next.root, view.sentiment.root);
  view.attention = element("div", { class: "wide", hidden: true },
    element("h3", {}, "Attention: point at a token to see where it looks"),
    view.compare.root,
    element("div", { class: "views" }, view.first.root, view.second.root));
  root.append(...paneShape({
    title: "A transformer reads a sentence",
    explanation: "The text becomes tokens, each token looks at others (attention), and from the result the model " +
      "predicts the next token, or whether a review is positive. Change the sentence: all below is computed again by " +
      "the lab's own small models.",
    lesson: "/lesson/transformer/#from-one-head-to-gpt-2",
    stage: [tasks(), element("label", { class: "sentence" }, "Sentence", view.box), buttons(), view.note, view.results],
    controls: [generationControls()],
  }));
  root.querySelector(".code").before(view.attention);
}

function tasks() {
  const labels = { generation: "Generation: what comes next", sentiment: "Sentiment: positive or negative" };
  view.tasks = Object.entries(labels).map(([value, label]) =>
    choice("radio", label, { name: "task", value, onchange: () => onTask(value) }));
  return element("fieldset", {}, element("legend", {}, "Task"), view.tasks.map(({ root }) => root));
}

function buttons() {
  view.newest = element("button", { hidden: true, onclick: showNewest }, "Show the newest");
  const [resume, pause, step] = ["resume", "pause", "step"].map((name) => () => act({ do: name }));
  view.buttons = buttonRow({ Start: resume, Pause: pause, Step: step, Reset: reset }, view.newest);
  return view.buttons;
}

function generationControls() {
  const changed = () => act({ do: "sampling", ...samplingOptions() });
  const paced = (value) => act({ do: "speed", tokens_per_second: value });
  const option = (name, label, step, format, onchange) => {
    const [min, max] = LIMITS[name];
    return slider(label, { min, max, step, value: DEFAULTS[name], format, onchange });
  };
  view.sliders = {
    temperature: option("temperature", "Temperature", 0.05, (value) => value.toFixed(2), changed),
    top_k: option("top_k", "Top-k", 1, (value) => (value ? String(value) : "off"), changed),
    top_p: option("top_p", "Top-p", 0.01, (value) => (value < 1 ? value.toFixed(2) : "off"), changed),
    speed: option("speed", "Tokens per second", 1, String, paced),
  };
  view.seed = wholeNumber("Seed", ...LIMITS.seed, 0, reset);
  view.generation = element("div", {},
    ...Object.values(view.sliders).map((each) => each.root),
    view.seed.root,
    element("p", { class: "numbers" }, "Start writes on, Step adds one token, Reset goes back to your own sentence. " +
      "The same seed draws the same tokens."));
  return view.generation;
}

// --- state in the address -------------------------------------------------------------------------

export function open(state) {
  if (wasOpened && Object.keys(state).length === 0) return; // back from another pane
  wasOpened = true;
  const inside = (text, [low, high], otherwise) =>
    text !== undefined && text !== "" && Number(text) >= low && Number(text) <= high ? Number(text) : otherwise;
  task = Object.hasOwn(EXAMPLES, state.task ?? "") ? state.task : "generation";
  typed = (state.sentence ?? EXAMPLES[task]).slice(0, MAX_TEXT);
  view.box.value = typed;
  for (const [name, each] of Object.entries(view.sliders)) each.set(inside(state[name], LIMITS[name], DEFAULTS[name]));
  view.seed.set(Math.round(inside(state.seed, LIMITS.seed, DEFAULTS.seed)));
  const head = (text, otherwise) => {
    const match = /^(\d\d?)\.(\d\d?)(n?)$/.exec(text ?? "");
    return match ? { layer: Number(match[1]), head: Number(match[2]), causal: !match[3] } : otherwise;
  };
  view.first.set(head(state.head, HEADS[task]));
  view.second.set(head(state.second, SECOND_HEAD));
  view.compare.input.checked = state.second !== undefined;
}

function save() {
  const written = (head) => `${head.layer}.${head.head}${head.causal ? "" : "n"}`; // n: no mask
  const state = { task, sentence: view.box.value, head: written(view.first.get()) };
  if (view.compare.input.checked) state.second = written(view.second.get());
  const settings = task === "generation" ? { ...numbers(), seed: view.seed.get() } : {};
  for (const [name, value] of Object.entries(settings)) if (value !== DEFAULTS[name]) state[name] = value;
  lab.save(state);
}

// --- messages to the job --------------------------------------------------------------------------

function numbers() {
  return Object.fromEntries(Object.entries(view.sliders).map(([name, each]) => [name, each.get()]));
}

function samplingOptions() {
  const { temperature, top_k, top_p } = numbers();
  return { temperature, top_k, top_p };
}

function heads() {
  return view.compare.input.checked ? [view.first.get(), view.second.get()] : [view.first.get()];
}

// Start the job of the sentence: it takes the place of the one that runs.
function start() {
  clearTimeout(timer);
  timer = null;
  number += 1;
  chosen = null;
  isStopped = false;
  const job = { number, sentence: view.box.value.slice(-MAX_TEXT), heads: heads() };
  const pace = { running: false, tokens_per_second: numbers().speed };
  if (task === "sentiment") lab.send({ do: "classify", ...job });
  else lab.send({ do: "generate", ...job, seed: view.seed.get(), ...pace, ...samplingOptions() });
  for (const { input } of view.tasks) input.checked = input.value === task;
  view.generation.hidden = view.buttons.hidden = task !== "generation";
}

// Tell the job something; where none is running, start one first.
function act(message) {
  if (timer !== null || isStopped) start();
  lab.send(message);
  save();
}

function reset() {
  view.box.value = typed;
  start();
  save();
}

function onTyped() {
  typed = view.box.value;
  number += 1; // frames of the old sentence come too late
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (view.root.hidden) return; // another pane's job runs
    start();
    save();
  }, 150);
}

function onTask(name) {
  if (view.box.value === EXAMPLES[task]) view.box.value = EXAMPLES[name];
  task = name;
  typed = view.box.value;
  view.first.set(HEADS[task]);
  view.second.set(SECOND_HEAD);
  start();
  save();
}

function onHeads() {
  act({ do: "heads", heads: heads() });
}

export function ready() {
  start();
  save();
}

// --- frames ---------------------------------------------------------------------------------------

export function show(given) {
  if (view.root.hidden) return; // it comes too late
  if (given.kind === "error") {
    isStopped = given.message !== "";
    view.results.hidden = view.attention.hidden = isStopped || frame === null;
    if (isStopped) view.note.textContent = "";
  } else if (given.number === number) {
    const isMotion = given.is_running && frame?.is_running && matchMedia("(prefers-reduced-motion: reduce)").matches;
    newest = given;
    view.newest.hidden = !isMotion;
    if (!isMotion) showNewest();
  }
}

function showNewest() {
  frame = newest;
  view.note.textContent = frame.note;
  view.note.hidden = !frame.note;
  view.results.hidden = view.attention.hidden = false;
  const isGeneration = frame.kind === "generation";
  view.next.root.hidden = !isGeneration;
  view.sentiment.root.hidden = isGeneration;
  if (isGeneration) showGeneration();
  else showSentiment();
  drawAttention();
}

function showGeneration() {
  view.next.draw(frame);
  if (view.box.value !== frame.text) {
    view.box.value = frame.text;
    view.box.scrollTop = view.box.scrollHeight;
  }
  if (frame.new && !frame.is_running) save();
  lab.announce(frame.is_running ? `… ${frame.text.slice(-60)}` :
    `Next token: ${visible(frame.tokens[0])}, ${percent(frame.probabilities[0])}`);
}

function showSentiment() {
  view.sentiment.draw(frame);
  lab.announce(`${frame.label}, ${percent(frame.probability)}`);
}

function drawAttention() {
  const { context, count } = frame;
  const part = ` (the ${frame.first ? "last" : "first"} ${context.length} of ${count.toLocaleString("en")})`;
  view.tokensTitle.textContent = "Tokens and their ids" + (context.length < count ? part : "") +
    (context.includes("\ufffd") ? "; \ufffd is a part of a character" : "");
  const place = chosen === null ? ownPlace() : Math.min(context.length - 1, Math.max(0, chosen - frame.first));
  view.tokens.draw(frame, place);
  view.first.draw(frame, frame.heads[0], place);
  view.second.root.hidden = frame.heads.length < 2;
  if (frame.heads.length > 1) view.second.draw(frame, frame.heads[1], place);
}

// The place of the token that the result is computed from: the last one, or [CLS].
function ownPlace() {
  return frame.kind === "generation" ? frame.context.length - 1 : 0;
}

function choose(place) {
  const before = chosen;
  chosen = place === ownPlace() ? null : frame.first + place;
  if (chosen === before) return;
  drawAttention();
  lab.announce(view.first.says());
}
