// The frame of the page: tabs, the socket, the state in the address, the code beside each pane.
// A pane is a module that exports {name, mount(root, lab), open(state), show(frame), ready()}; see maze.js.

import * as maze from "./maze.js";
import * as transformer from "./transformer.js";
import * as arm from "./arm.js";

const panes = { maze, transformer, arm };
const connection = document.getElementById("connection");
const live = document.getElementById("live");
const RECONNECT_MS = [250, 500, 1000, 2000, 4000];

window.lab = { frame: null };
let current = null; // the name of the open pane
let socket = null;
let attempts = 0;

// --- the socket ---------------------------------------------------------------------------------

function connect() {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  const opened = new WebSocket(`ws://${location.host}/socket?token=${encodeURIComponent(token)}`);
  socket = opened;
  opened.onmessage = (event) => receive(JSON.parse(event.data));
  opened.onclose = (event) => {
    if (opened !== socket) return;
    const reason = event.reason || "the server does not answer";
    const wait = RECONNECT_MS[Math.min(attempts, RECONNECT_MS.length - 1)];
    attempts += 1;
    say(`Not connected: ${reason}. Trying again …`);
    setTimeout(connect, wait);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function receive(frame) {
  if (frame.kind === "worker") {
    if (frame.state === "ready") {
      attempts = 0;
      say("");
      panes[current].ready();
    } else {
      say("The worker process has ended. Another one is being started …");
    }
  } else if (frame.kind === "refused") {
    say(`The server refused a message: ${frame.message}`);
  } else if (frame.pane in panes) {
    panes[frame.pane].show(frame);
    if (frame.kind !== "error") window.lab.frame = frame;
  }
}

function say(text) {
  connection.textContent = text;
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
  return [name in panes ? name : "maze", state];
}

function save(state) {
  const query = new URLSearchParams(state).toString();
  history.replaceState(null, "", `#${current}${query ? "?" + query : ""}`);
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
  save(state);
  panes[name].ready();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => {
    if (nameOf(tab) !== current) open(nameOf(tab), {});
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
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
  pane.mount(root, { send: (message) => send({ pane: name, ...message }), save, announce });
  showCode(name, root);
}
open(...stateInAddress());
connect();
