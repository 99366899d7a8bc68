// The tokens of a text and tables of attention weights. A token is chosen by hover, by focus or by a click, in the row
// of tokens or in a table: the same token is then marked everywhere, and a sentence says where it looks.

import { element } from "./dom.js";

// Spaces, line breaks and characters that cannot be seen are made visible.
export function visible(token) {
  return token
    .replaceAll(" ", "␣")
    .replaceAll("\n", "⏎")
    .replace(/[\p{C}\p{Z}]/gu, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

// Give `parent` exactly `count` children. Those that are there stay, and with them the focus.
export function fit(parent, count, make) {
  while (parent.childElementCount > count) parent.lastElementChild.remove();
  while (parent.childElementCount < count) parent.append(make(parent.childElementCount));
  return [...parent.children];
}

// One tab stop for all buttons in `box`; the arrow keys move between them.
export function oneTabStop(box, back, forth) {
  box.addEventListener("keydown", (event) => {
    const step = { [back]: -1, [forth]: 1 }[event.key];
    const buttons = [...box.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    next.focus({ focusVisible: true });
  });
}

export function percent(probability) {
  if (probability === 0 || probability === 1) return `${100 * probability}%`;
  if (probability < 0.001) return "< 0.1%";
  if (probability > 0.999) return "> 99.9%";
  return `${(100 * probability).toFixed(probability < 0.1 || probability > 0.99 ? 1 : 0)}%`;
}

// Call `choose` with the place of the element of `box` that the pointer or the focus is on.
function watchChoice(box, selector, choose) {
  for (const kind of ["pointermove", "focusin", "click"]) { // no pointerover: a page that scrolls causes it too
    box.addEventListener(kind, (event) => {
      const place = event.target.closest(selector)?.dataset.place;
      if (place !== undefined) choose(Number(place));
    });
  }
}

// The row of tokens. `draw` gets a frame and the chosen place, counted from the first token that is shown.
export function tokenRow(choose) {
  const root = element("div", { class: "tokens", role: "group", "aria-label": "Tokens with their ids" });
  oneTabStop(root, "ArrowLeft", "ArrowRight");
  watchChoice(root, "button", choose);

  function draw(frame, chosen) {
    const make = (place) => element("button", { "data-place": place }, element("bdi"), element("small"));
    const firstNew = frame.context.length - (frame.new ?? 0);
    for (const [place, button] of fit(root, frame.context.length, make).entries()) {
      button.firstChild.textContent = visible(frame.context[place]);
      button.lastChild.textContent = frame.context_ids[place];
      button.className = place >= firstNew ? "new" : "";
      button.tabIndex = place === chosen ? 0 : -1;
      button.setAttribute("aria-pressed", String(place === chosen));
    }
  }
  return { root, draw };
}

// One table of attention weights with its controls. `names`: of layer, head and mask; `onchange`: of any of them.
export function attentionView(names, onchange, choose) {
  const [layer, head] = [names.layer, names.head].map((name) => element("select", { id: idOf(name), onchange }));
  const causal = element("input", { type: "checkbox", checked: true, onchange });
  const causalLabel = element("label", {}, causal, ` ${names.causal}`);
  const note = element("p", { class: "numbers" });
  const columns = element("tr");
  const body = element("tbody");
  const caption = element("caption");
  const table = element("table", { class: "attention" }, caption, element("thead", {}, columns), body);
  const scroll = element("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": names.table }, table);
  const looks = element("p", { class: "looks" });
  const root = element("section", { class: "view" },
    element("div", { class: "choices" },
      element("span", {}, element("label", { for: layer.id }, names.layer), " ", layer),
      element("span", {}, element("label", { for: head.id }, names.head), " ", head),
      causalLabel),
    note, scroll, looks);
  oneTabStop(body, "ArrowUp", "ArrowDown");
  watchChoice(body, "tr", choose);
  let wanted = null; // layer and head, until the lists are filled

  function get() {
    if (layer.options.length) wanted = { layer: Number(layer.value), head: Number(head.value) };
    return { ...wanted, causal: causal.checked };
  }

  function set(given) {
    layer.replaceChildren();
    head.replaceChildren();
    wanted = { layer: given.layer, head: given.head };
    causal.checked = given.causal;
  }

  function draw(frame, view, chosen) {
    const encoder = frame.kind === "sentiment";
    causalLabel.hidden = encoder;
    drawChoice(layer, frame.num_layers, view.layer);
    drawChoice(head, frame.num_heads, view.head);
    note.textContent = view.causal || encoder ? "" : withoutMask(frame.losses);
    note.hidden = !note.textContent;
    caption.textContent = "Each row: where one token looks, in percent" +
      (encoder || !view.causal ? "" : "; ×: hidden by the mask");
    drawTable(frame.context, view.weights, chosen, !encoder && view.causal);
    looks.replaceChildren(...whereItLooks(frame.context, view.weights[chosen], chosen));
  }

  function drawTable(tokens, weights, chosen, masked) {
    const [, ...titles] = fit(columns, tokens.length + 1, (place) =>
      place ? element("th", { scope: "col" }, element("bdi")) : element("td"));
    for (const [place, title] of titles.entries()) title.firstChild.textContent = visible(tokens[place]);
    const rows = fit(body, tokens.length, (place) =>
      element("tr", { "data-place": place }, element("th", { scope: "row" }, element("button", {}, element("bdi")))));
    for (const [place, row] of rows.entries()) {
      const [title, ...cells] = fit(row, tokens.length + 1, () => element("td"));
      title.firstChild.tabIndex = place === chosen ? 0 : -1;
      title.firstChild.setAttribute("aria-pressed", String(place === chosen));
      title.firstChild.firstChild.textContent = visible(tokens[place]);
      row.className = place === chosen ? "chosen" : "";
      for (const [column, cell] of cells.entries()) drawCell(cell, weights[place][column], masked && column > place);
    }
  }
  return { root, draw, get, set, says: () => looks.textContent };
}

function idOf(name) {
  return `transformer-${name.toLowerCase().replaceAll(" ", "-")}`;
}

function drawChoice(select, count, value) {
  fit(select, count, (number) => element("option", { value: number }, String(number)));
  if (document.activeElement !== select) select.value = value;
}

function drawCell(cell, weight, isMasked) {
  cell.textContent = isMasked ? "×" : Math.round(100 * weight);
  cell.className = isMasked ? "masked" : "";
  cell.style.setProperty("--weight", isMasked ? "0%" : `${Math.round(50 * weight)}%`);
}

function withoutMask(losses) {
  const [mask, none] = losses;
  const numbers = mask === null ? "" :
    ` Predicting the tokens of this text costs it ${mask.toFixed(2)} nats per token with the mask and ` +
    `${none.toFixed(2)} without.`;
  return "Without the mask each token also looks at later ones. The model was trained with it: had it seen the next " +
    `token in training, it would have had nothing to predict.${numbers}`;
}

// "␣sea" looks at "␣man" 41%, ...: the sentence of the chosen token.
function whereItLooks(tokens, weights, chosen) {
  const most = weights.map((weight, place) => [weight, place]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const parts = [quoted(tokens[chosen]), " looks most at "];
  for (const [number, [weight, place]] of most.filter(([weight]) => weight >= 0.005).entries()) {
    parts.push(number ? ", " : "", quoted(tokens[place]), ` ${percent(weight)}`);
  }
  return parts;
}

function quoted(token) {
  return element("bdi", { class: "token" }, visible(token));
}
