"use strict";
/* The table of models, and the plain tables. Texts from outside only ever become text nodes. */

const MOST_ROWS = 200;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function scrolling(table, label) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

function plainTable(columns, rows) {
  const isNumber = (text) => text === "" || /^-?\d+(\.\d+)?(e-?\d+)?( ± [\d.e-]+)?$/.test(text);
  const looks = columns.map((_, place) => (rows.length && rows.every((row) => isNumber(row[place])) ? "number" : ""));
  const head = element("tr", {}, ...columns.map((name, place) => element("th", { scope: "col", class: looks[place] }, name)));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell, place) => element("td", { class: looks[place] }, cell))));
  return element("table", { class: "plain" }, element("thead", {}, head), element("tbody", {}, ...body));
}

function say(text) { document.getElementById("spoken").textContent = text; }

class PointsTable {
  constructor(current) {
    Object.assign(this, { current, sortBy: null, isRising: true, showsAll: false });
    this.table = document.getElementById("points-table");
    this.shown = document.getElementById("points-shown");
    this.more = document.getElementById("points-more");
    this.shown.addEventListener("change", () => this.draw());
    this.more.addEventListener("click", () => { this.showsAll = true; this.draw(); });
  }

  columns() {
    const data = this.current();
    const ofDevices = data.metricNames.filter((name) => name.includes("@") && name.split("@")[0] in data.objectives);
    const extra = [...ofDevices, ...data.metricNames.filter((name) => data.metrics[name].is_compared && !(name in data.objectives))];
    const ofMetric = (metric) => ({ name: axisTitle(data, metric), key: metric, isNumber: true, value: (trial) => trial.figures[metric].value,
      text: (trial) => (metric in data.objectives ? cellText(trial, metric) : short(trial.figures[metric].value, metric) || "-") });
    return [
      { name: "trial", key: "trial", isNumber: true, value: (trial) => trial.number ?? -1, text: (trial) => `${trial.number ?? "baseline"}${trial.isKnee ? "*" : ""}` },
      ...Object.keys(data.objectives).map(ofMetric),
      { name: "plan", key: "plan", cell: (trial) => this.planCell(trial), value: (trial) => trial.plan },
      { name: "ship this", key: "ship", cell: (trial) => this.shipCell(trial), value: (trial) => (trial.isModel || trial.number === null ? 0 : 1) },
      { name: "group", key: "group", value: (trial) => data.groups.indexOf(trial.group), text: (trial) => trial.group },
      ...extra.map((metric) => ({ ...ofMetric(metric), isExtra: true })),
    ];
  }

  trials() {
    const data = this.current();
    const kinds = {
      front: (trial) => trial.group === "front" || trial.group === "baseline", models: (trial) => trial.isModel || trial.group === "baseline",
      all: () => true, selected: (trial) => selection.has(trial.index),
    };
    const found = data.trials.filter(kinds[this.shown.value]);
    const column = this.columns().find((one) => one.key === (this.sortBy ?? Object.keys(data.objectives).find((name) => !isQuality(data, name))));
    const compare = (one, other) => (typeof one === "string" ? one.localeCompare(other) : one - other);
    return found.sort((one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      if (a === null || b === null) return (a === null) - (b === null);  // what was not measured comes last
      return (this.isRising ? 1 : -1) * compare(a, b);
    });
  }

  draw() {
    const trials = this.trials();
    const columns = this.columns();
    const visible = this.showsAll ? trials : trials.slice(0, MOST_ROWS);
    const heads = columns.map((column) => this.heading(column));
    const head = element("tr", {}, element("th", { scope: "col" }, element("span", { class: "unseen" }, "selected")), ...heads);
    this.table.replaceChildren(element("caption", { class: "unseen" }, "Trials with their figures and intervals"), element("thead", {}, head),
      element("tbody", {}, ...visible.map((trial) => this.row(trial, columns))));
    this.more.hidden = visible.length === trials.length;
    this.more.textContent = `Show all ${trials.length} rows`;
    document.getElementById("points-count").textContent = counted(trials.length, "row");
  }

  heading(column) {
    const isSorted = this.sortBy === column.key;
    const button = element("button", { type: "button" }, column.name + (isSorted ? (this.isRising ? " ↑" : " ↓") : ""));
    button.addEventListener("click", () => {
      Object.assign(this, { isRising: !isSorted || !this.isRising, sortBy: column.key });
      this.draw();
      this.table.querySelector(`th[data-key="${column.key}"] button`).focus();
    });
    return element("th", { scope: "col", class: looks(column), "data-key": column.key,
      "aria-sort": isSorted ? (this.isRising ? "ascending" : "descending") : "none" }, button);
  }

  row(trial, columns) {
    const box = element("input", { type: "checkbox", "aria-label": `select ${trial.name}` });
    box.checked = selection.has(trial.index);
    box.addEventListener("change", () => selection.toggle(trial.index));
    const cells = columns.map((column) => (column.cell ? column.cell(trial)
      : element(column.key === "trial" ? "th" : "td", { class: looks(column), ...(column.key === "trial" ? { scope: "row" } : {}) }, column.text(trial))));
    return element("tr", { "data-trial": trial.index, "aria-selected": String(box.checked) }, element("td", {}, box), ...cells);
  }

  /* The plan; opened, everything that is known of the trial. */
  planCell(trial) {
    const details = element("details", {}, element("summary", {}, trial.plan));
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) {
        details.append(element("dl", {}, ...factsOf(this.current(), trial).flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)])));
      }
    });
    return element("td", { class: "text" }, details);
  }

  shipCell(trial) {
    if (!trial.isModel && trial.number !== null) return element("td", {});
    const { study_argument: study, ship_options: options } = this.current();
    const line = `vitsearch ship ${study} ${trial.number ?? trial.name} ${options}`.trim();
    const button = element("button", { type: "button", "aria-label": `Copy the line that ships ${trial.name}` }, "Copy");
    button.addEventListener("click", async () => {
      const isCopied = await copied(line, button);
      button.textContent = isCopied ? "Copied" : "Copy";
      say(isCopied ? `Copied: ${line}` : "The browser does not allow copying; mark the line and copy it yourself");
    });
    return element("td", {}, element("div", { class: "ship" }, element("code", {}, line), button));
  }

  mark() {
    for (const row of this.table.tBodies[0].rows) {
      const isOn = selection.has(Number(row.dataset.trial));
      row.setAttribute("aria-selected", String(isOn));
      row.querySelector("input").checked = isOn;
    }
  }
}

function looks(column) { return `${column.isNumber ? "number" : ""} ${column.isExtra ? "extra" : ""}`.trim(); }

function cellText(trial, metric) {
  const figure = trial.figures[metric];
  if (figure.value !== null) return withInterval(figure, metric);
  return drawn(trial, metric) ? `${figureText(trial, metric)}` : "not measured";
}

async function copied(line, button) {
  try {
    await navigator.clipboard.writeText(line);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}
