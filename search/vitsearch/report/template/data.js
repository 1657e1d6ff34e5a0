"use strict";
/* The data of the page: its columns become trials, its numbers text. Nothing here touches the document. */

/* Metrics that are shares of images; those of the data that was decoded last. */
let shares = new Set();

function decoded(raw) {
  const columns = raw.trials;
  const word = (column, index) => column.words[column.index[index]];
  const metrics = Object.keys(raw.metrics);
  shares = new Set(metrics.filter((name) => raw.metrics[name].is_share));
  const knobs = Object.keys(columns.knobs);
  const trials = columns.number.map((number, index) => {
    const figures = {};
    for (const name of metrics) {
      const column = columns.metrics[name];
      figures[name] = {
        value: column.value[index], low: column.low[index], high: column.high[index], reason: word(column.reason, index),
      };
    }
    const trial = {
      index, number, figures, plan: columns.plan[index], rung: columns.rung[index], ended_s: columns.ended_s[index],
      predicted: columns.predicted[index], error: columns.error[index],
      knobs: Object.fromEntries(knobs.map((name) => [name, word(columns.knobs[name], index)])),
    };
    for (const name of ["group", "outcome", "reason", "notes", "broken", "shared"]) trial[name] = word(columns[name], index);
    trial.predictedMetric = raw.quality;
    trial.name = number === null ? "baseline" : `trial ${number}`;
    trial.isKnee = number !== null && number === raw.knee;
    trial.isModel = trial.outcome !== "duplicate" && ["front", "near the front", "dominated"].includes(trial.group);
    return trial;
  });
  const varying = knobs.filter((name) => columns.knobs[name].words.length > 1);
  return { ...raw, trials, metricNames: metrics, knobNames: knobs, varying };
}

/* A metric of the task, not a cost. */
function isQuality(data, metric) {
  return Boolean(data.metrics[metric]?.is_quality);
}

/* The figure of a trial to draw: its quality before it has one is the predicted one. */
function drawn(trial, metric) {
  const figure = trial.figures[metric];
  if (figure && figure.value !== null) return figure;
  if (metric !== trial.predictedMetric || trial.predicted === null) return null;
  return { value: trial.predicted, low: trial.predicted - trial.error, high: trial.predicted + trial.error, predicted: true };
}

function short(value, metric) {
  if (value === null || value === undefined) return "";
  if (shares.has(metric)) return value.toFixed(4);
  const digits = Math.abs(value) >= 1000 ? 4 : 3;
  return String(Number(value.toPrecision(digits)));
}

function withInterval(figure, metric) {
  if (figure.low === null || figure.low === undefined) return short(figure.value, metric);
  const half = (figure.high - figure.low) / 2;
  return `${short(figure.value, metric)} ± ${Number(half.toPrecision(2))}`;
}

function axisTitle(data, metric) {
  const unit = data.metrics[metric]?.unit || "";
  return unit && !metric.toLowerCase().includes(unit.toLowerCase()) ? `${metric} [${unit}]` : metric;
}

/* Plotly reads tags and entities in texts; these are names and messages from outside. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function wrapped(text, width) {
  const lines = [""];
  for (const part of String(text).split(" ")) {
    if (lines[lines.length - 1].length + part.length > width && lines[lines.length - 1]) lines.push("");
    lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + part;
  }
  return lines;
}

function counted(number, noun) {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

/* Everything that is known of a trial, as pairs of a name and a text. */
function factsOf(data, trial) {
  const facts = [["plan", trial.plan], ["outcome", trial.outcome + (trial.reason ? `: ${trial.reason}` : "")]];
  for (const metric of data.metricNames) {
    const figure = trial.figures[metric];
    if (figure.value !== null) facts.push([axisTitle(data, metric), withInterval(figure, metric)]);
    else if (figure.reason) facts.push([metric, `not measured: ${figure.reason}`]);
  }
  if (trial.predicted !== null) {
    facts.push([`${data.quality} predicted`, `${short(trial.predicted, data.quality)} ± ${short(trial.error, data.quality)}`]);
  }
  for (const name of data.knobNames) facts.push([name, String(trial.knobs[name])]);
  if (trial.rung) facts.push(["epochs trained", String(trial.rung)]);
  for (const name of ["broken", "shared", "notes"]) {
    const label = { broken: "limits not kept", shared: "reused", notes: "note" }[name];
    if (trial[name]) facts.push([label, trial[name]]);
  }
  return facts;
}

function hoverText(data, trial) {
  const lines = [`<b>${plain(trial.name)}${trial.isKnee ? " (knee)" : ""}</b>: ${plain(trial.group)}`];
  for (const [name, text] of factsOf(data, trial)) {
    if (data.knobNames.includes(name) && ["none", "0"].includes(text)) continue;
    const [first, ...rest] = wrapped(`${name}: ${text}`, 70);
    lines.push(plain(first), ...rest.map((line) => `&nbsp;&nbsp;${plain(line)}`));
  }
  return lines.join("<br>");
}
