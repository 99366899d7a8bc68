// The frame of the page: tabs, the socket, the state in the address, the code beside each pane.
// A pane is a module that exports {name, mount(root, lab), open(state), show(frame), ready()}; see maze.js.

import * as maze from "./maze.js";
import * as transformer from "./transformer.js";
import * as arm from "./arm.js";
import { element, write } from "./dom.js";

const panes = { maze, transformer, arm };
const connection = document.getElementById("connection");
const live = document.getElementById("live");
const stuck = document.getElementById("stuck");
const RECONNECT_MS = [250, 500, 1000, 2000, 4000];
const SAVES = 30; // changes of the address at once; after these, one in SAVE_MS: browsers allow about 100 in 30 s
const SAVE_MS = 500;
const PING_MS = 1000;
const SILENT_MS = 5000; // after which the worker is taken to be stuck
const LOADING_MS = 20000; // the same, while it loads the libraries of a pane
const A_WHILE_MS = 15000; // that a line stays which needs no answer

window.lab = { frame: null };
let current = null; // the name of the open pane
let socket = null;
let attempts = 0;
let isFirst = true; // the first socket is not open yet
const early = []; // messages from before it is
let isLost = false; // what the worker had computed
let isNew = false; // the worker, which has got no message yet
let pingedAt = null; // milliseconds, of the ping that has no answer yet
let isLoading = true; // the worker, what the pane needs

// --- the socket ---------------------------------------------------------------------------------

const token = new URLSearchParams(location.search).get("token") ?? "";

function connect() {
  const opened = new WebSocket(`ws://${location.host}/socket?token=${encodeURIComponent(token)}`);
  socket = opened;
  opened.onopen = () => {
    isFirst = false;
    if (early.length > 0) early.splice(0).forEach(send); // from `open` on, in this order
    else panes[current].ready(); // the worker reads it as soon as it can
  };
  opened.onmessage = (event) => receive(JSON.parse(event.data));
  opened.onclose = async (event) => {
    forgetPing();
    const wait = RECONNECT_MS[Math.min(attempts, RECONNECT_MS.length - 1)];
    attempts += 1;
    isLost = true;
    say(`Not connected: ${event.reason || (await reasonOf())}. Trying again …`);
    setTimeout(connect, wait);
  };
}

// Why there is no socket: browsers do not tell, but an ordinary request gets an answer.
async function reasonOf() {
  try {
    const answer = await fetch(`/?token=${encodeURIComponent(token)}`, { method: "HEAD" });
    if (answer.status === 403) return "lab play was started again; open the address that it has printed";
    return "the connection was lost";
  } catch {
    return "the server does not answer";
  }
}

function send(message) {
  if (message.pane !== current) return;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  else if (isFirst) early.push(message);
}

function receive(frame) {
  if (frame.kind === "worker") {
    if (frame.state === "ready") hasWorker();
    else lost("The worker process has ended. Another one is being started …");
  } else if (frame.kind === "alive") {
    pingedAt = null;
  } else if (frame.kind === "refused") {
    sayAWhile(`The server refused a message: ${frame.message}`);
  } else if (frame.pane === current) { // those of another pane come too late
    showFrame(frame, document.getElementById(current));
  }
}

function showFrame(frame, root) {
  isLoading = false;
  if (frame.kind === "error") write(root.querySelector(".problem"), frame.message);
  else window.lab.frame = frame;
  if (frame.own_functions) write(root.querySelector(".own"), frame.own_functions.map(ownFunction).join(" "));
  panes[current].show(frame);
}

function ownFunction(line) {
  return `Runs your own ${line.replace(" does the work of ", " in place of ")}.`;
}

function lost(text) {
  forgetPing();
  isLost = isNew = true;
  say(text);
}

function hasWorker() {
  attempts = 0;
  if (isNew) panes[current].ready();
  sayAWhile(isLost ? "Connected again. This pane is back at its beginning." : "");
  isLost = isNew = false;
}

function sayAWhile(text) {
  say(text);
  setTimeout(() => connection.textContent === text && say(""), A_WHILE_MS);
}

function say(text) {
  write(connection, text);
}

// --- a worker that does not answer: an endless loop in a learner's function, for example ------------------

setInterval(() => {
  const patience = isLoading ? LOADING_MS : SILENT_MS;
  stuck.hidden = pingedAt === null || performance.now() - pingedAt < patience;
  if (pingedAt !== null || socket?.readyState !== WebSocket.OPEN) return;
  pingedAt = performance.now();
  socket.send(JSON.stringify({ pane: "", do: "ping" }));
}, PING_MS);

function forgetPing() {
  pingedAt = null;
  isLoading = true;
  stuck.hidden = true;
}

// The server ends the worker together with its socket, and starts another one for the next socket.
stuck.querySelector("button").addEventListener("click", () => {
  forgetPing(); // now: it takes a while until the socket is closed
  socket.close(1000, "the worker is being restarted");
});

// --- announcements: polite, and at most one a second ----------------------------------------------

let waiting = null;
let timer = null;

function announce(text) {
  waiting = text;
  if (timer !== null) return;
  live.textContent = waiting;
  waiting = null;
  timer = setTimeout(() => {
    timer = null;
    if (waiting !== null) announce(waiting);
  }, 1000);
}

// --- state in the address: #maze?seed=1&... ----------------------------------------------------------

function stateInAddress() {
  const [name, query] = location.hash.slice(1).split("?");
  const state = Object.fromEntries(new URLSearchParams(query ?? ""));
  return [Object.hasOwn(panes, name) ? name : "maze", state];
}

let saves = SAVES; // that are allowed now
let unsaved = null; // name of the pane, and its state

function save(name, state) {
  unsaved = [name, state];
  writeAddress();
}

function writeAddress() {
  if (unsaved === null || saves === 0) return;
  const [name, state] = unsaved;
  unsaved = null;
  saves -= 1;
  if (name === current) history.replaceState(null, "", `#${name}?${new URLSearchParams(state)}`);
}

setInterval(() => {
  saves = Math.min(SAVES, saves + 1);
  writeAddress();
}, SAVE_MS);

// --- tabs -----------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

function nameOf(tab) {
  return tab.getAttribute("aria-controls");
}

function open(name, state) {
  current = name;
  isLoading = true;
  for (const tab of tabs) {
    const chosen = nameOf(tab) === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(nameOf(tab)).hidden = !chosen;
  }
  panes[name].open(state);
  panes[name].ready();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => {
    if (nameOf(tab) === current) return;
    history.pushState(null, "", `#${nameOf(tab)}`); // the browser's Back leads to the pane before
    open(nameOf(tab), {});
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own keys
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus({ focusVisible: true });
    next.click();
  });
}

window.addEventListener("hashchange", () => open(...stateInAddress()));

// --- the code beside a pane ---------------------------------------------------------------------------

async function showCode(name, root) {
  const box = root.querySelector(".code");
  const answer = await fetch(`/code/${name}`);
  if (!box || !answer.ok) return;
  for (const part of await answer.json()) {
    const lines = part.lines.map(({ number, text }) =>
      element("span", { class: "line", "data-number": number }, `${text}\n`));
    const code = element("pre", { tabindex: 0, "aria-label": `source code of ${part.name}` }, lines);
    box.append(element("h3", {}, `${part.file}: ${part.name}`), code);
  }
}

for (const [name, pane] of Object.entries(panes)) {
  const root = document.getElementById(name);
  pane.mount(root, {
    send: (message) => send({ pane: name, ...message }),
    save: (state) => save(name, state),
    announce,
  });
  showCode(name, root);
}
open(...stateInAddress());
connect();
