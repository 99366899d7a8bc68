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

// A labelled slider with its value beside it; `onchange` gets the number. Returns {root, get, set}.
export function slider(label, { min, max, step, value, format = String, onchange = () => {} }) {
  const output = element("output", {});
  const input = element("input", { type: "range", min, max, step, value });
  const write = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  write();
  input.addEventListener("input", () => {
    write();
    onchange(Number(input.value));
  });
  const root = element("label", { class: "slider" }, element("span", {}, label), input, output);
  return {
    root,
    get: () => Number(input.value),
    set: (number) => {
      input.value = number;
      write();
    },
  };
}

// The whole number that an input holds; its smallest one if it holds none that it allows.
export function wholeNumber(input) {
  const isWhole = input.value !== "" && Number.isInteger(Number(input.value));
  return isWhole && input.checkValidity() ? Number(input.value) : Number(input.min);
}

// Return a function that does the action now, or as soon as the last time is so many milliseconds ago.
export function atMostEvery(milliseconds, action) {
  let isWaiting = false;
  let isWanted = false;
  return function call() {
    if (isWaiting) {
      isWanted = true;
      return;
    }
    isWaiting = true;
    action();
    setTimeout(() => {
      isWaiting = false;
      if (isWanted) call();
    }, milliseconds);
    isWanted = false;
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
      element("div", { class: "controls" }, ...controls),
      element("details", { class: "code", open: true }, element("summary", {}, "The code that computes this"))),
  ];
}
