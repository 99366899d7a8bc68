import { paneShape } from "./dom.js";

export function mount(root) {
  root.append(...paneShape({ title: "arm", explanation: "", lesson: "/lesson/arm/", stage: [], controls: [] }));
}
export function open() {}
export function show() {}
export function ready() {}
