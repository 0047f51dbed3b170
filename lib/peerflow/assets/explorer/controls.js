// What a reader turns: choices and sliders, each with its name and its value in words.
import { element } from "./charts.js";

let made = 0;
export const unique = (name) => `pf-${name}-${++made}`;

// A list to choose from: `options` are pairs of a value and what it is called.
export function choice(label, options, changed) {
  const select = element("select", { id: unique("choice") });
  const offer = (pairs) =>
    select.replaceChildren(...pairs.map(([value, name]) => element("option", { value }, name)));
  offer(options);
  select.addEventListener("change", () => changed(select.value));
  const node = element("div", { class: "pf-field" }, element("label", { for: select.id }, label), select);
  return {
    node,
    set(value) {
      if (![...select.options].some((option) => option.value === String(value))) {
        select.append(element("option", { value }, String(value)));
      }
      select.value = String(value);
    },
  };
}

// Buttons of which one is pressed.
export function buttons(label, options, changed) {
  const name = unique("group");
  const inputs = options.map(([value]) => element("input", { type: "radio", name, value }));
  const node = element(
    "fieldset",
    { class: "pf-field pf-group" },
    element("legend", {}, label),
    element("div", {}, ...options.map(([, text], i) => element("label", {}, inputs[i], element("span", {}, text)))),
  );
  for (const input of inputs) input.addEventListener("change", () => changed(input.value));
  return { node, set: (value) => inputs.forEach((input) => (input.checked = input.value === value)) };
}

// A slider over the places of a list, or over whole numbers: `words` says what a place means.
export function slider(label, { moved, words }) {
  const input = element("input", { type: "range", id: unique("slider"), min: 0, step: 1 });
  const output = element("output", { for: input.id, "aria-live": "off" }); // the slider says it
  const say = () => {
    output.value = words(Number(input.value));
    input.setAttribute("aria-valuetext", output.value);
  };
  input.addEventListener("input", () => {
    say();
    moved(Number(input.value));
  });
  input.addEventListener("keydown", (event) => event.stopPropagation());
  const head = element("div", { class: "pf-head" }, element("label", { for: input.id }, label), output);
  return {
    node: element("div", { class: "pf-field pf-slider" }, head, input),
    set(value, most, text) {
      input.max = most;
      input.value = value;
      say();
      if (text) {
        output.value = text;
        input.setAttribute("aria-valuetext", text);
      }
    },
  };
}

// Step sizes with two digits, from one to the other.
export function stepSizes(low, high) {
  const mantissas = [];
  for (let tenths = 10; tenths < 100; tenths += tenths < 20 ? 1 : tenths < 50 ? 2 : 5) mantissas.push(tenths);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const tenths of mantissas) {
      const value = Number(`${tenths}e${power - 1}`);
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

// The place of the value that comes nearest.
export function nearest(values, value) {
  let best = 0;
  values.forEach((each, i) => {
    if (Math.abs(each - value) < Math.abs(values[best] - value)) best = i;
  });
  return best;
}
