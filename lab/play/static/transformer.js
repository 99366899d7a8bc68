import { paneShape } from "./dom.js";

export function mount(root) {
  root.append(...paneShape({ title: "transformer", explanation: "", lesson: "/lesson/transformer/", stage: [], controls: [] }));
}
export function open() {}
export function show() {}
export function ready() {}
