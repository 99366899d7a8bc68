// Small helpers to build the page. No HTML is ever made from text: a sentence or a token cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}

// element("button", {class: "x", onclick: f}, "text", child, ...)
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// Write a text, or an attribute, only where it changes: the browser has less to do then.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// A number as people write it: "−3.68", "1,000". What the worker could not compute is null.
export function inWriting(number, digits = null) {
  const text = digits === null ? (number ?? NaN).toLocaleString("en") : (number ?? NaN).toFixed(digits);
  return text.replace("-", "−");
}

// The row of buttons of a pane; `actions`: name -> what it does.
export function buttonRow(actions, ...others) {
  const buttons = Object.entries(actions).map(([name, onclick]) =>
    element("button", { type: "button", class: name === "Start" && "main", onclick }, name));
  return element("div", { class: "buttons" }, buttons, ...others);
}

// A check box or radio button with its label: {input, root}.
export function choice(type, label, attributes) {
  const input = element("input", { type, ...attributes });
  return { input, root: element("label", { class: "check" }, input, ` ${label}`) };
}

// A field for a whole number: {input, root, get, set}. A number that it does not allow is refused, and gives way to the
// last one that it did; `get` returns that one, and `set` takes the smallest instead.
export function wholeNumber(label, min, max, value, onchange) {
  let last = value;
  const input = element("input", { type: "number", min, max, value, required: true });
  input.addEventListener("change", () => {
    if (!input.reportValidity()) return;
    last = Number(input.value);
    onchange();
  });
  input.addEventListener("blur", () => {
    if (!input.checkValidity()) input.value = last;
  });
  const set = (number) => {
    input.value = number;
    if (!input.checkValidity()) input.value = min;
    last = Number(input.value);
  };
  return { input, root: element("label", {}, `${label} `, input), get: () => last, set };
}

// A labelled slider with its value beside it; `onchange` gets the number. Returns {root, get, set}.
export function slider(label, { min, max, step, value, format = String, onchange = () => {} }) {
  const output = element("output", {});
  const input = element("input", { type: "range", min, max, step, value });
  const get = () => Number(input.value);
  const show = () => {
    output.textContent = format(get());
    input.setAttribute("aria-valuetext", output.textContent);
  };
  show();
  input.addEventListener("input", () => {
    show();
    onchange(get());
  });
  const set = (number) => {
    input.value = number;
    show();
  };
  return { root: element("label", { class: "slider" }, element("span", {}, label), input, output), get, set };
}

// Return a function that does the action now, or as soon as the last time is so many milliseconds ago.
export function atMostEvery(milliseconds, action) {
  let isWaiting = false;
  let isWanted = false;
  return function call() {
    isWanted = isWaiting;
    if (isWaiting) return;
    isWaiting = true;
    action();
    setTimeout(() => {
      isWaiting = false;
      if (isWanted) call();
    }, milliseconds);
  };
}

// A pane's text, its stage, its controls and its code: every pane has this shape.
export function paneShape({ title, explanation, lesson, stage, controls }) {
  return [
    element("h2", {}, title),
    element("p", { class: "explanation" }, explanation, " ", element("a", { href: lesson, target: "_blank" }, "Read the lesson")),
    element("p", { class: "problem", role: "alert" }),
    element("div", { class: "columns" },
      element("div", { class: "stage" }, ...stage),
      element("div", { class: "controls" }, element("p", { class: "own" }), ...controls),
      element("details", { class: "code", open: true }, element("summary", {}, "The code that computes this"))),
  ];
}
