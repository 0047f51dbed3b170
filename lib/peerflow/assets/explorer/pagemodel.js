// What anywidget gives to `render`, as far as the panels use it: for pages without a kernel.
export class PageModel {
  constructor(values) {
    this.values = values;
    this.changed = new Set();
    this.listeners = new Map();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    this.changed.add(name);
  }

  save_changes() {
    const names = [...this.changed].map((name) => `change:${name}`);
    this.changed.clear();
    for (const name of [...names, "change"]) for (const listener of [...(this.listeners.get(name) ?? [])]) listener();
  }

  on(name, listener) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
  }

  off(name, listener) {
    this.listeners.set(name, (this.listeners.get(name) ?? []).filter((each) => each !== listener));
  }
}
