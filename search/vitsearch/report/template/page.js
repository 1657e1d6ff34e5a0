"use strict";
/* The page as a whole: fills it, listens to its controls, and, live, follows the study. */

const page = { data: null, drawings: [], table: null };
const current = () => page.data;
const by = (id) => document.getElementById(id);

function options(id, names, chosen) {
  const select = by(id);
  const before = select.value;
  const known = [...select.options].map((option) => option.value);
  if (known.join() === Object.keys(names).join()) return;
  select.replaceChildren(...Object.entries(names).map(([value, text]) => element("option", { value }, text)));
  select.value = before && before in names ? before : chosen;
}

function fillControls() {
  const data = page.data;
  const metrics = Object.fromEntries(data.metricNames.map((name) => [name, axisTitle(data, name)]));
  const objectives = Object.keys(data.objectives);
  const costs = objectives.filter((name) => !isQuality(data, name));
  const third = costs[1] || ["size_mb", "peak_memory_mb", "params_m"].find((name) => name in metrics) || objectives[0];
  options("front-x", metrics, costs[0] || objectives[0]);
  options("front-y", metrics, objectives.find((name) => isQuality(data, name)) || objectives[1]);
  options("space-x", metrics, costs[0] || objectives[0]);
  options("space-y", metrics, third);
  options("space-z", metrics, objectives.find((name) => isQuality(data, name)) || objectives[1]);
  options("effects-metric", Object.fromEntries(objectives.map((name) => [name, axisTitle(data, name)])), costs[0] || objectives[0]);
  const { names, first } = effectBackbones(data);
  options("effects-backbone", Object.fromEntries(names.map((name) => [name, name])), first);
  options("progress-cost", Object.fromEntries(Object.entries(COSTS).map(([name, [title]]) => [name, title])), "run_s");
}

function wideRange() {
  const metric = choice("front-x");
  const values = page.data.trials.map((trial) => trial.figures[metric].value).filter((value) => value > 0);
  return values.length > 1 && Math.max(...values) > 10 * Math.min(...values);
}

function fillConditions() {
  const data = page.data;
  const form = by("conditions");
  const anything = () => element("option", { value: "" }, "any");
  const chooser = (kind, name, words) => element("label", {}, name, element("select", { "data-kind": kind, "data-name": name }, anything(),
    ...words.map((word) => element("option", { value: String(word) }, String(word)))));
  const wordsOf = (knob) => [...new Set(data.trials.map((trial) => trial.knobs[knob]))].sort();
  const groups = data.groups.filter((group) => data.trials.some((trial) => trial.group === group));
  const filled = JSON.stringify([groups, data.varying.map((knob) => [knob, wordsOf(knob)])]);
  if (form.dataset.filled === filled) return;
  form.dataset.filled = filled;
  const chosen = [...form.querySelectorAll("[data-kind]")].map((field) => [field.dataset.kind, field.dataset.name, field.value]);
  const bound = (metric) => {
    const kind = data.metrics[metric].direction === "maximize" ? "min" : "max";
    return element("label", {}, `${metric} ${kind === "min" ? "at least" : "at most"}`, element("input", { type: "number", step: "any", "data-kind": kind, "data-name": metric }));
  };
  form.replaceChildren(
    element("label", {}, "words", element("input", { type: "search", "data-kind": "text", "data-name": "text" })),
    chooser("group", "group", groups),
    ...Object.keys(data.objectives).map(bound), ...data.varying.map((knob) => chooser("knob", knob, wordsOf(knob))));
  for (const field of form.querySelectorAll("[data-kind]")) {
    const before = chosen.find(([kind, name]) => kind === field.dataset.kind && name === field.dataset.name);
    if (before) field.value = before[2];
  }
}

function readConditions() {
  const fields = [...by("conditions").querySelectorAll("[data-kind]")].filter((field) => field.value !== "");
  return fields.map((field) => ({ kind: field.dataset.kind, name: field.dataset.name, value: field.type === "number" ? Number(field.value) : field.value }));
}

function fillTexts() {
  const data = page.data;
  const onFront = data.trials.filter((trial) => trial.group === "front").length;
  const finished = data.trials.filter((trial) => trial.number !== null).length;
  by("title").textContent = `Study ${data.study}`;
  by("emulated").hidden = !data.emulated;
  by("summary").textContent = `${counted(onFront, "model")} on the front. ${counted(finished, "trial")} finished, ${counted(data.trained, "plan")} trained`
    + `${data.open_trials ? `, ${data.open_trials} in progress` : ""}. Objectives: ${Object.entries(data.objectives).map(([name, way]) => `${way} ${name}`).join(", ")}.`;
  by("class-warnings").hidden = !data.quality_warnings.length;
  by("class-warnings").replaceChildren(...data.quality_warnings.map((line) => element("li", {}, line)));
  by("samples").hidden = !data.samples.length;
  by("samples-table").replaceChildren(...data.samples.map(sampleRow));
  by("made").textContent = `Made ${data.made_at} by vitsearch ${data.version}.`;
  by("measured-tables").replaceChildren(...data.conditions.flatMap(headed));
  by("failures-tables").replaceChildren(...putAside());
  by("reused-tables").replaceChildren(...reused());
}

function sampleRow({ name, pictures }) {
  const drawn = pictures.map((picture, index) => element("td", {}, element("img", { src: `data:image/png;base64,${picture}`, alt: `${name} ${index + 1}` })));
  return element("tr", {}, element("th", { scope: "row" }, name), ...drawn);
}

function headed({ heading, columns, rows }) {
  return [element("h3", {}, heading), scrolling(plainTable(columns, rows), heading)];
}

function putAside() {
  const data = page.data;
  const failed = data.failures.map((failure) => [`trial ${failure.trial}`, failure.plan, failure.stage || "", failure.kind || "", failure.message || failure.reason]);
  const counts = new Map();
  for (const trial of data.trials) {
    if (trial.number === null || trial.isModel || trial.outcome === "failed") continue;
    counts.set(trial.outcome, [...(counts.get(trial.outcome) || []), trial]);
  }
  const rows = [...counts].map(([outcome, trials]) => [outcome, String(trials.length), example(trials)]);
  const found = failed.length ? headed({ heading: "Failures", columns: ["trial", "plan", "stage", "kind", "reason"], rows: failed })
    : [element("p", {}, "No trial failed.")];
  return rows.length ? [...found, ...headed({ heading: "Put aside", columns: ["outcome", "trials", "for example"], rows })] : found;
}

function example(trials) {
  const last = trials[trials.length - 1];
  return `${last.name}: ${last.reason || last.broken || last.plan}`;
}

function reused() {
  const { shared, duplicates } = page.data.reuse;
  const rows = shared.map(({ what, used, different, older }) => [what, used, different, older, used - different + older].map(String));
  const sharing = page.data.trials.filter((trial) => trial.shared).map((trial) => [trial.name, trial.plan, trial.shared]);
  const found = headed({ heading: "Results", columns: ["results", "trials that need one", "different ones", "made before this study", "reused"], rows });
  found.push(element("p", {}, `${counted(duplicates, "trial")} resolved to a model that another trial had.`));
  return sharing.length ? [...found, ...headed({ heading: "Trials", columns: ["trial", "plan", "reused"], rows: sharing })] : found;
}

function refresh() {
  for (const drawing of page.drawings) drawing.invalidate();
}

function showSelected() {
  by("selected").textContent = selection.size ? `${selection.size} of ${page.data.trials.length} selected` : "Nothing is selected";
}

function whenSelected() {
  showSelected();
  if (by("points-shown").value === "selected") page.table.draw();
  else page.table.mark();
  refresh();
}

function show(raw) {
  const kept = page.data ? page.data.trials.filter((trial) => selection.has(trial.index)).map((trial) => trial.number) : [];
  page.data = decoded(raw);
  fillControls();
  fillConditions();
  fillTexts();
  selection.trials = new Set(page.data.trials.filter((trial) => kept.includes(trial.number)).map((trial) => trial.index));
  showSelected();
}

function listen() {
  const redraw = (ids, names) => {
    const invalidate = () => {
      for (const drawing of page.drawings) if (names.includes(drawing.name)) drawing.invalidate();
    };
    for (const id of ids) by(id).addEventListener("change", invalidate);
  };
  redraw(["front-x", "front-y", "front-bars"], ["front"]);
  redraw(["front-predicted"], ["front", "space"]);
  redraw(["front-log"], ["front", "space"]);
  redraw(["space-x", "space-y", "space-z"], ["space"]);
  redraw(["effects-metric", "effects-backbone"], ["effects"]);
  redraw(["progress-cost"], ["progress"]);
  by("conditions").addEventListener("input", () => {
    const conditions = readConditions();
    selection.set(conditions.length ? matching(page.data, conditions) : []);
  });
  by("conditions").addEventListener("submit", (event) => event.preventDefault());
  by("select-front").addEventListener("click", () => selection.set(page.data.trials.filter((trial) => trial.group === "front").map((trial) => trial.index)));
  by("select-none").addEventListener("click", () => { by("conditions").reset(); selection.clear(); });
  by("theme").addEventListener("change", () => { document.documentElement.dataset.theme = by("theme").value; refresh(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  by("print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => forPrint(true));
  addEventListener("afterprint", () => forPrint(false));
  selection.listeners.push(whenSelected);
}

/* On paper everything is drawn, on white. */
function forPrint(isPrinting) {
  theme.printing = isPrinting;
  const chosen = by("theme").value;
  document.documentElement.dataset.theme = isPrinting ? "light" : chosen;
  for (const drawing of page.drawings) {
    drawing.isDirty = true;
    if (isPrinting || drawing.isVisible) drawing.draw();
  }
}

function fillNavigation() {
  const links = [...document.querySelectorAll("main section")].map((section) => element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
  document.querySelector("nav").replaceChildren(element("ul", {}, ...links));
}

function follow() {
  const state = by("live");
  state.hidden = false;
  const time = () => new Date().toLocaleTimeString();
  const events = new EventSource("events");
  let version = null;
  events.addEventListener("open", () => { state.textContent = `Live, connected at ${time()}`; });
  events.addEventListener("error", () => { state.textContent = `No connection to vitsearch serve since ${time()}; trying again. The page shows what it knew then.`; });
  events.addEventListener("problem", (event) => { state.textContent = `The study cannot be read: ${JSON.parse(event.data)}`; });
  events.addEventListener("version", async (event) => {
    if (event.data === version) {  // after a problem that has passed
      state.textContent = `Live, connected at ${time()}`;
      return;
    }
    const answer = await fetch("data.json");
    if (!answer.ok) return;
    version = event.data;
    const before = page.data.trials.length;
    show(await answer.json());
    page.table.draw();
    refresh();
    const more = page.data.trials.length - before;
    state.textContent = `Live, updated at ${time()}${more > 0 ? `: ${counted(more, "new trial")}` : ""}`;
    document.documentElement.dataset.version = version;
  });
}

async function start() {
  show(JSON.parse(by("data").textContent));
  by("front-log").checked = wideRange();
  page.table = new PointsTable(current);
  page.table.draw();
  fillNavigation();
  page.drawings = [...document.querySelectorAll("[data-figure]")].map((place) => new Drawing(place.dataset.figure, place, current));
  listen();
  const first = page.drawings[0];
  first.isVisible = true;
  await first.draw();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
  watchVisibility(page.drawings);
  if (document.documentElement.dataset.mode === "live") follow();
}

start();
