// The maze as a grid of buttons: what is written in its cells, and how they are changed by pointer and keys.

import { element, inWriting, write } from "./dom.js";

export const KINDS = { S: "start", ".": "floor", X: "wall", G: "goal" };
const ARROWS = ["↑", "→", "↓", "←"]; // of the actions 0 to 3
const MOVES = { ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowLeft: [0, -1] };
const BY_KEY = { focusVisible: true };
const SHADES = 20; // steps from the lowest value to the reward of the goal
const GOAL_REWARD = 10;
const SMALLEST = 24; // pixels of a cell that a finger can hit
const LARGEST = 100;
const HOLDS_NUMBERS = 52; // pixels of a cell in which a number can be read

// `onedit(index, kind)`: a cell is to become a wall, floor, start or goal; `onlook()`: another cell is looked at.
export class MazeGrid {
  constructor(onedit, onlook) {
    this.onedit = onedit;
    this.onlook = onlook;
    this.tool = "X"; // the kind that a click makes
    this.fits = false; // the whole maze into the window, however small its cells are
    this.looked = 0; // the cell that has the focus or the pointer
    this.layout = [];
    this.cells = [];
    this.drag = null;
    this.grid = element("div", { role: "grid", "aria-label": "Maze" });
    this.root = element("div", { class: "maze-box" }, this.grid);
    this.grid.addEventListener("keydown", (event) => this.press(event));
    this.grid.addEventListener("keyup", (event) => event.key === " " && event.preventDefault());
    this.grid.addEventListener("click", (event) => this.click(event));
    this.grid.addEventListener("focusin", (event) => this.look(this.indexOf(event.target)));
    this.grid.addEventListener("pointerdown", (event) => this.startDrag(event));
    addEventListener("pointerup", () => setTimeout(() => (this.drag = null))); // after the click that it may cause
    this.grid.addEventListener("pointerover", (event) => this.continueDrag(event));
    new ResizeObserver(() => requestAnimationFrame(() => this.fit())).observe(this.root);
  }

  get columns() {
    return this.layout[0].length;
  }

  kindOf(index) {
    return this.layout[Math.floor(index / this.columns)][index % this.columns];
  }

  nameOf(index) {
    return `row ${Math.floor(index / this.columns) + 1}, column ${(index % this.columns) + 1}`;
  }

  indexOf(target) {
    const button = target.closest("button");
    return button ? Number(button.dataset.index) : -1;
  }

  // --- drawing ---------------------------------------------------------------------------------------

  setLayout(layout) {
    const isNew = layout.length !== this.layout.length || layout[0].length !== this.columns;
    this.layout = layout;
    if (isNew) this.build();
    this.cells.forEach((cell, index) => {
      const kind = KINDS[this.kindOf(index)];
      if (cell.kind === kind) return;
      cell.kind = cell.button.dataset.kind = kind;
      cell.q = null; // what is written in it belongs to the old kind
      cell.button.setAttribute("aria-label", `${this.nameOf(index)}, ${kind}`);
    });
  }

  build() {
    this.looked = 0;
    this.frame = this.mouse = null;
    this.cells = Array.from({ length: this.layout.length * this.columns }, (_, index) => {
      const learned = element("span", { class: "learned" });
      const optimal = element("span", { class: "optimal" });
      const attributes = {
        type: "button", role: "gridcell", tabindex: index ? -1 : 0, "data-index": index, "aria-describedby": "maze-cell",
      };
      return { button: element("button", attributes, learned, optimal), learned, optimal, q: null, optimum: null };
    });
    const rows = this.layout.map((_, row) => {
      const cells = this.cells.slice(row * this.columns, (row + 1) * this.columns);
      return element("div", { role: "row" }, cells.map((cell) => cell.button));
    });
    this.grid.replaceChildren(...rows);
    this.fit();
  }

  // Choose the size of the cells. What fits into them, CSS decides by the class.
  fit(fits = this.fits) {
    this.fits = fits;
    const width = this.root.clientWidth;
    if (!width || !this.cells.length) return;
    const whole = Math.min((width - 2) / this.columns, (innerHeight * 0.6) / this.layout.length);
    const size = Math.min(LARGEST, Math.max(this.fits ? 5 : SMALLEST, Math.floor(whole)));
    this.grid.style.setProperty("--cell", `${size}px`);
    this.grid.style.setProperty("--columns", this.columns);
    this.size = size >= HOLDS_NUMBERS ? "large" : size >= SMALLEST ? "small" : "tiny";
    this.grid.className = this.size;
    this.lowest = null; // all cells are drawn again
    if (this.frame) this.draw(this.frame);
  }

  // Write the Q-values, (S, A), into the cells, and those of the optimum if they are in the frame: where they changed.
  draw(frame) {
    if (frame.layout.length !== this.layout.length || frame.layout[0].length !== this.columns) return; // an older one
    this.frame = frame;
    const lowest = Math.floor(frame.q.reduce((least, q) => Math.min(least, Math.max(...q)), -1));
    const isOther = lowest !== this.lowest; // all shades then
    this.lowest = lowest;
    this.cells.forEach((cell, index) => {
      const [q, optimum] = [frame.q[index], frame.optimum?.[index] ?? null];
      if (!isOther && isSame(cell.q, q) && isSame(cell.optimum, optimum)) return;
      Object.assign(cell, { q, optimum });
      this.drawCell(cell);
    });
    this.grid.classList.toggle("with-optimum", frame.optimum !== null);
    this.placeMouse(frame.state);
  }

  drawCell({ button, kind, q, optimum, learned, optimal }) {
    const isShown = kind === "floor" || kind === "start";
    const isTried = isShown && q.some((value) => value !== 0);
    const height = (Math.max(...q) - this.lowest) / (GOAL_REWARD - this.lowest);
    const shade = String(isTried ? Math.round(SHADES * height) : 0);
    if (button.style.getPropertyValue("--shade") !== shade) button.style.setProperty("--shade", shade);
    write(learned, isTried ? this.text(q) : "");
    write(optimal, isShown && optimum?.some((value) => value !== 0) ? this.text(optimum, learned.textContent) : "");
  }

  placeMouse(index) {
    if (this.mouse === index) return;
    this.cells[this.mouse ?? index].button.classList.remove("mouse");
    this.cells[index].button.classList.add("mouse");
    this.mouse = index;
  }

  // The best actions as arrows, and below them their value; in a small cell one arrow, if possible the preferred one.
  text(q, preferred = "") {
    const value = Math.max(...q);
    const arrows = ARROWS.filter((_, action) => q[action] > value - 1e-6);
    if (this.size === "large") return `${arrows.join("")}\n${inWriting(value, 2)}`;
    return arrows.find((arrow) => arrow === preferred) ?? arrows[0];
  }

  // All four Q-values of the cell that is looked at, in words.
  describe() {
    const index = this.looked;
    const start = `${this.nameOf(index)}, ${this.cells[index].kind}`;
    const q = this.frame?.q[index];
    if (!q || this.cells[index].kind === "wall" || this.cells[index].kind === "goal") return start;
    const list = (values) => ["up", "right", "down", "left"].map((name, a) => `${name} ${inWriting(values[a], 2)}`).join(", ");
    const best = this.frame.optimum?.[index];
    return `${start}: Q ${list(q)}${best ? `; optimum ${list(best)}` : ""}`;
  }

  // --- pointer and keys ----------------------------------------------------------------------------------

  look(index) {
    if (index < 0) return;
    this.looked = index;
    this.onlook();
  }

  focus(index, options) {
    for (const cell of this.cells) if (cell.button.tabIndex === 0) cell.button.tabIndex = -1;
    this.cells[index].button.tabIndex = 0;
    this.cells[index].button.focus(options);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const index = this.indexOf(event.target);
    if (event.key in MOVES) {
      const [down, right] = MOVES[event.key];
      const [row, column] = [Math.floor(index / this.columns) + down, (index % this.columns) + right];
      const isInside = row >= 0 && row < this.layout.length && column >= 0 && column < this.columns;
      if (isInside) this.focus(row * this.columns + column, BY_KEY);
    } else if (event.key === "Home" || event.key === "End") {
      const first = index - (index % this.columns);
      this.focus(event.key === "Home" ? first : first + this.columns - 1, BY_KEY);
    } else if (event.key === " ") {
      if (!event.repeat) this.toggle(index, "X");
    } else if (event.key === "s" || event.key === "g") {
      this.toggle(index, event.key.toUpperCase());
    } else {
      return;
    }
    event.preventDefault();
  }

  // A second time takes back a wall or a goal.
  toggle(index, kind) {
    this.onedit(index, this.kindOf(index) === kind && kind !== "S" ? "." : kind);
  }

  click(event) {
    const index = this.indexOf(event.target);
    if (index < 0 || (this.drag?.hasMoved && event.detail > 0)) return; // 0: by a key
    this.focus(index);
    this.toggle(index, this.tool);
  }

  // Walls are drawn, or wiped out, by dragging the mouse over the cells. A finger scrolls, and taps.
  startDrag(event) {
    const index = this.indexOf(event.target);
    const isDrawing = index >= 0 && this.tool === "X" && event.pointerType === "mouse" && event.button === 0;
    this.drag = isDrawing ? { index, kind: this.kindOf(index) === "X" ? "." : "X", hasMoved: false } : null;
  }

  continueDrag(event) {
    const index = this.indexOf(event.target);
    this.look(index);
    if (!this.drag || index < 0 || !(event.buttons & 1)) return;
    if (!this.drag.hasMoved && index === this.drag.index) return;
    const passed = this.drag.hasMoved ? [index] : [this.drag.index, index];
    this.drag.hasMoved = true;
    for (const each of passed) if ("X.".includes(this.kindOf(each))) this.onedit(each, this.drag.kind);
  }
}

function isSame(one, other) {
  return one === other || (one !== null && other !== null && one.every((value, action) => value === other[action]));
}
