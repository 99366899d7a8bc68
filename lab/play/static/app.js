// The frame of the page: tabs, the socket, the state in the address, the code beside each pane.
// A pane is a module that exports {name, mount(root, lab), open(state), show(frame), ready()}; see maze.js.

import * as maze from "./maze.js";
import * as transformer from "./transformer.js";
import * as arm from "./arm.js";
import { atMostEvery } from "./dom.js";

const panes = { maze, transformer, arm };
const connection = document.getElementById("connection");
const live = document.getElementById("live");
const RECONNECT_MS = [250, 500, 1000, 2000, 4000];
const SAVE_MS = 350; // browsers allow no more than about three changes of the address in a second
const A_WHILE_MS = 15000; // that a line stays which needs no answer

window.lab = { frame: null };
let current = null; // the name of the open pane
let socket = null;
let attempts = 0;
let isFirst = true; // the first socket is not open yet
const early = []; // messages from before it is
let isLost = false; // what the worker had computed
let isNew = false; // the worker, which has got no message yet

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
    if (answer.status === 403) return "lab play was started anew; open the address that it has printed";
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
  } else if (frame.kind === "refused") {
    sayAWhile(`The server refused a message: ${frame.message}`);
  } else if (frame.pane === current) { // those of another pane come too late
    panes[current].show(frame);
    if (frame.kind !== "error") window.lab.frame = frame;
  }
}

function lost(text) {
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
  if (connection.textContent !== text) connection.textContent = text;
}

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

let unsaved = null; // name of the pane, and its state

const saveSoon = atMostEvery(SAVE_MS, () => {
  const [name, state] = unsaved;
  if (name === current) history.replaceState(null, "", `#${name}?${new URLSearchParams(state)}`);
});

function save(name, state) {
  unsaved = [name, state];
  saveSoon();
}

// --- tabs -----------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

function nameOf(tab) {
  return tab.getAttribute("aria-controls");
}

function open(name, state) {
  current = name;
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
    next.focus();
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
    const title = document.createElement("h3");
    title.textContent = `${part.file}: ${part.name}`;
    const code = document.createElement("pre");
    code.tabIndex = 0;
    code.setAttribute("aria-label", `source code of ${part.name}`);
    for (const line of part.lines) {
      const row = document.createElement("span");
      row.className = "line";
      row.dataset.number = line.number;
      row.textContent = line.text + "\n";
      code.append(row);
    }
    box.append(title, code);
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
