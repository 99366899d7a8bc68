// What the model predicts: the table of next tokens, and the label with the contribution of each word.

import { fit, oneTabStop, percent, visible } from "./attention.js";
import { element } from "./dom.js";

const COLUMNS = ["Token", "Id", "Model", "After temperature, top-k and top-p"];
const TOO_SMALL = 0.005; // an attribution that would be shown as 0.00

// The next tokens; `take` gets the id of the one that is clicked.
export function nextTokens(take) {
  const rows = element("tbody");
  const others = element("p", { class: "numbers" });
  const root = element("div", {},
    element("h3", {}, "The next token: click one, or press Enter on it, to take it"),
    element("table", { class: "next" },
      element("thead", {}, element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col" }, name)))), rows),
    others);
  oneTabStop(rows, "ArrowUp", "ArrowDown");

  function newRow(place) {
    const row = element("tr", { role: "row" },
      element("td", {}, element("button", { tabindex: place ? -1 : 0 }, element("bdi"))),
      element("td"), element("td", {}, element("span")), element("td", {}, element("span")));
    row.addEventListener("click", () => take(Number(row.dataset.id)));
    return row;
  }

  function draw(frame) {
    for (const [place, row] of fit(rows, frame.ids.length, newRow).entries()) drawNextToken(row, frame, place);
    const { count, model_probability, probability } = frame.others;
    others.textContent = `All ${count.toLocaleString("en")} other tokens together: ` +
      `${percent(model_probability)}, then ${percent(probability)}.` +
      (frame.is_greedy ? " At temperature 0 nothing is drawn: the most likely token is taken." : "");
  }
  return { root, draw };
}

function drawNextToken(row, frame, place) {
  const [token, id, model, after] = row.children;
  const isRemoved = frame.probabilities[place] === 0;
  row.dataset.id = frame.ids[place];
  row.className = isRemoved ? "removed" : "";
  token.firstChild.firstChild.textContent = visible(frame.tokens[place]);
  id.textContent = frame.ids[place];
  drawBar(model, frame.model_probabilities[place], percent(frame.model_probabilities[place]));
  drawBar(after, frame.probabilities[place], isRemoved ? "removed" : percent(frame.probabilities[place]));
}

function drawBar(cell, probability, text) {
  cell.firstChild.textContent = text;
  cell.style.setProperty("--bar", `${100 * probability}%`);
}

// The label, its probability, and what each word adds to it.
export function sentiment() {
  const label = element("p", { class: "label" });
  const words = element("p", { class: "words" });
  const sum = element("p", { class: "numbers" });
  const root = element("div", {},
    element("h3", {}, "Label, and what each word adds to its probability"), label, words, sum);

  function draw(frame) {
    label.textContent = `${frame.label} ${percent(frame.probability)}`;
    drawWords(words, frame.words ?? []);
    sum.textContent = frame.words === null ? "What each word adds is being computed …" :
      `With all words masked the probability is ${percent(frame.baseline)}; what the words add (+) and take (−) ` +
      `leads from there to ${percent(frame.probability)}.`;
  }
  return { root, draw };
}

function drawWords(box, words) {
  const largest = Math.max(0.01, ...words.map(([, value]) => Math.abs(value)));
  const chips = fit(box, words.length, () => element("span", {}, element("bdi"), element("small")));
  for (const [place, chip] of chips.entries()) {
    const [word, value] = words[place];
    const isSmall = Math.abs(value) < TOO_SMALL;
    chip.firstChild.textContent = visible(word);
    chip.lastChild.textContent = isSmall ? "0.00" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
    chip.className = isSmall ? "" : value < 0 ? "lowers" : "raises";
    chip.style.setProperty("--strength", `${Math.round((40 * Math.abs(value)) / largest)}%`);
  }
}
