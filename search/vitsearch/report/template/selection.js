"use strict";
/* Which trials are selected. Every figure and the table show it; every one of them may change it. */

const selection = {
  trials: new Set(),
  listeners: [],
  cleared: 0,
  set(indices) {
    const next = new Set(indices);
    const same = next.size === this.trials.size && [...next].every((index) => this.trials.has(index));
    if (same) return;
    this.trials = next;
    for (const listener of this.listeners) listener();
  },
  toggle(index) {
    const next = new Set(this.trials);
    if (!next.delete(index)) next.add(index);
    this.set(next);
  },
  /* Nothing is selected, and no figure shows a range that the reader has marked. */
  clear() {
    this.cleared += 1;
    this.trials = new Set();
    for (const listener of this.listeners) listener();
  },
  has(index) { return this.trials.has(index); },
  get size() { return this.trials.size; },
};

/* The conditions that the reader has set: metric -> {min, max}, knob -> choice, "group" -> group. */
function matching(data, conditions) {
  return data.trials.filter((trial) => conditions.every(({ kind, name, value }) => {
    if (kind === "knob") return String(trial.knobs[name]) === value;
    if (kind === "group") return trial.group === value;
    if (kind === "text") return `${trial.name} ${trial.plan} ${trial.reason}`.toLowerCase().includes(value.toLowerCase());
    const figure = trial.figures[name];
    if (figure.value === null) return false;
    return kind === "min" ? figure.value >= value : figure.value <= value;
  })).map((trial) => trial.index);
}
