"use strict";
/* One function for each figure: what Plotly draws, what the figure shows in words, and the same as a table.
   A trace that shows trials has their indices as `customdata`. */

const choice = (id) => document.getElementById(id).value;
const ticked = (id) => document.getElementById(id).checked;

function isCost(data, metric) { return metric in data.metrics && !isQuality(data, metric); }

function isLogarithmic(data, metric) { return isCost(data, metric) && ticked("front-log"); }

function bars(trials, metric) {
  const ends = trials.map((trial) => drawn(trial, metric));
  return {
    type: "data", symmetric: false, thickness: 1, width: 0, color: theme.colour("quiet"),
    array: ends.map((figure) => (figure.high ?? figure.value) - figure.value),
    arrayminus: ends.map((figure) => figure.value - (figure.low ?? figure.value)),
  };
}

/* Drawing a point with a look of its own takes twice as long: only where something is selected, and for the knee. */
function marked(trials) {
  if (!selection.size) return {};
  const places = trials.flatMap((trial, place) => (trial && selection.has(trial.index) ? [place] : []));
  return { selectedpoints: places, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.2 } } };
}

function sizes(trials, size) {
  return trials.some((trial) => trial.isKnee) ? trials.map((trial) => size + (trial.isKnee ? 5 : 0)) : size;
}

function pointTraces(data, metrics, shows) {
  const order = ["not trained", "over a limit", "dominated", "near the front", "front", "baseline"];
  const known = data.trials.filter((trial) => metrics.every((metric) => drawn(trial, metric)) && shows(trial));
  return order.map((group) => ({ group, trials: known.filter((trial) => trial.group === group) })).filter((one) => one.trials.length);
}

function figureFront(data) {
  const [x, y] = [choice("front-x"), choice("front-y")];
  const groups = pointTraces(data, [x, y], (trial) => ticked("front-predicted") || trial.group !== "not trained");
  const withBars = { front: ["front", "near the front", "baseline"], all: groups.map((one) => one.group), none: [] }[choice("front-bars")];
  const traces = groups.map(({ group, trials }) => {
    const look = GROUP_LOOKS[group];
    const trace = {
      type: "scatter", mode: "markers", name: group, x: trials.map((trial) => drawn(trial, x).value),
      y: trials.map((trial) => drawn(trial, y).value), customdata: trials.map((trial) => trial.index),
      hovertext: trials.map((trial) => hoverText(data, trial)), hoverinfo: "text", ...marked(trials),
      marker: { color: theme.group(group), symbol: look.symbol, opacity: 1, size: sizes(trials, look.size) },
    };
    if (withBars.includes(group)) Object.assign(trace, { error_x: bars(trials, x), error_y: bars(trials, y) });
    return trace;
  });
  const onFront = groups.find((one) => one.group === "front");
  if (onFront && x in data.objectives && y in data.objectives) traces.unshift(frontLine(onFront.trials, x, y));
  const shown = groups.flatMap((one) => one.trials).sort((one, other) => drawn(one, x).value - drawn(other, x).value);
  return {
    traces,
    layout: layout({ xaxis: metricAxis(data, x, shown.map((trial) => drawn(trial, x).value)),
      yaxis: metricAxis(data, y, shown.map((trial) => drawn(trial, y).value)), shapes: limitLines(data, x, y),
      annotations: kneeLabel(data, shown, x, y), uirevision: kept(x, y) }),
    words: `${counted(shown.length, "point")}: ${y} against ${x}. ${counted(onFront ? onFront.trials.length : 0, "model")} on the front.`,
    walk: shown,
    table: { columns: ["trial", "group", "plan", x, y], rows: () => shown.map((trial) => [trial.name, trial.group, trial.plan,
      figureText(trial, x), figureText(trial, y)]) },
  };
}

/* A zoom of the reader is kept while the axes show the same. */
function kept(...shown) { return [...shown, ticked("front-log")].join(); }

function kneeLabel(data, shown, x, y) {
  const place = (trial, metric) => (isLogarithmic(data, metric) ? Math.log10(drawn(trial, metric).value) : drawn(trial, metric).value);
  return shown.filter((trial) => trial.isKnee).map((trial) => ({ x: place(trial, x), y: place(trial, y), text: "knee", showarrow: false,
    xshift: -18, yshift: 16, font: { color: theme.colour("ink"), size: 12 } }));
}

function figureText(trial, metric) {
  const figure = drawn(trial, metric);
  return withInterval(figure, metric) + (figure.predicted ? " (predicted)" : "");
}

function frontLine(trials, x, y) {
  const sorted = [...trials].sort((one, other) => drawn(one, x).value - drawn(other, x).value);
  return { type: "scatter", mode: "lines", x: sorted.map((trial) => drawn(trial, x).value), y: sorted.map((trial) => drawn(trial, y).value),
    line: { color: theme.group("front"), width: 1.5 }, hoverinfo: "skip", showlegend: false };
}

function limitLines(data, x, y) {
  const line = { color: theme.colour("warning"), width: 1.5, dash: "dash" };
  const label = (limit) => ({ text: plain(`limit: ${limit.metric} ${limit.sense} ${Number(limit.value.toPrecision(4))}`), font: { color: theme.colour("warning") } });
  return data.limits.flatMap((limit) => {
    if (limit.metric === y) return [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit.value, y1: limit.value, line, label: { ...label(limit), textposition: "end" } }];
    if (limit.metric === x) return [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: limit.value, x1: limit.value, line, label: label(limit) }];
    return [];
  });
}

function figureSpace(data) {
  const names = ["space-x", "space-y", "space-z"].map(choice);
  const groups = pointTraces(data, names, (trial) => ticked("front-predicted") || trial.group !== "not trained");
  const faded = theme.colour("line");
  const traces = groups.map(({ group, trials }) => {
    const ends = names.map((name) => bars(trials, name));
    const values = names.map((name) => trials.map((trial) => drawn(trial, name).value));
    const isOn = (trial) => !selection.size || selection.has(trial.index);
    const trace = {
      type: "scatter3d", mode: "markers", name: group, x: values[0], y: values[1], z: values[2], customdata: trials.map((trial) => trial.index),
      hovertext: trials.map((trial) => hoverText(data, trial)), hoverinfo: "text",
      marker: { color: trials.map((trial) => (isOn(trial) ? theme.group(group) : faded)), symbol: { star: "diamond-open" }[GROUP_LOOKS[group].symbol] || GROUP_LOOKS[group].symbol,
        size: GROUP_LOOKS[group].size * 0.55 },
    };
    if (["front", "baseline"].includes(group)) Object.assign(trace, { error_x: ends[0], error_y: ends[1], error_z: ends[2] });
    return trace;
  });
  const shown = groups.flatMap((one) => one.trials);
  const axis3 = (name) => metricAxis(data, name, shown.map((trial) => drawn(trial, name).value),
    { color: theme.colour("ink"), backgroundcolor: theme.colour("ground") });
  return {
    traces, needsWebGL: true,
    layout: layout({ margin: { l: 0, r: 0, t: 0, b: 0 }, height: theme.isNarrow ? 400 : 560, dragmode: "turntable",
      scene: { xaxis: axis3(names[0]), yaxis: axis3(names[1]), zaxis: axis3(names[2]) }, uirevision: kept(...names) }),
    words: `${counted(shown.length, "point")} in three metrics: ${names.join(", ")}.`,
    table: { columns: ["trial", "group", "plan", ...names], rows: () => shown.map((trial) => [trial.name, trial.group, trial.plan,
      ...names.map((name) => figureText(trial, name))]) },
  };
}

function figureParallel(data) {
  const metrics = [...Object.keys(data.objectives), ...["size_mb", "peak_memory_mb"].filter((name) => name in data.metrics && !(name in data.objectives))];
  const rank = (trial) => -data.groups.indexOf(trial.group);
  const trials = data.trials.filter((trial) => metrics.every((metric) => drawn(trial, metric))).sort((one, other) => rank(one) - rank(other));
  const varying = data.varying.filter((knob) => new Set(trials.map((trial) => trial.knobs[knob])).size > 1);
  const ofMetric = (metric) => {
    const values = trials.map((trial) => drawn(trial, metric).value);
    if (!isLogarithmic(data, metric) || !values.length) return { label: metric, values };
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const shown = logTicks(values).tickvals.filter((tick) => tick >= low && tick <= high);
    return { label: metric, values: values.map(Math.log10), tickvals: shown.map(Math.log10), ticktext: shown.map((tick) => short(tick)) };
  };
  const ofKnob = (knob) => {
    const words = [...new Set(trials.map((trial) => trial.knobs[knob]))].sort((one, other) => (typeof one === "number" && typeof other === "number"
      ? one - other : String(one).localeCompare(String(other))));
    return { label: knob, values: trials.map((trial) => words.indexOf(trial.knobs[knob])), tickvals: words.map((_, place) => place),
      ticktext: words.map((word) => plain(word)), range: [-0.2, Math.max(0.2, words.length - 0.8)] };
  };
  const looks = data.groups.filter((group) => trials.some((trial) => trial.group === group));
  const colours = [theme.colour("line"), ...looks.map((group) => theme.group(group))];
  const dimensions = [...varying.map(ofKnob), ...metrics.map(ofMetric)];
  const longest = Math.max(0, ...trials.map((trial) => (varying.length ? String(trial.knobs[varying[0]]).length : 0)));
  const hidden = data.trials.length - trials.length;
  return {
    traces: [{
      type: "parcoords", customdata: trials.map((trial) => trial.index), dimensions, labelangle: -20, labelside: "top",
      labelfont: { color: theme.colour("ink"), size: 12 }, tickfont: { color: theme.colour("ink"), size: 11 }, rangefont: { color: theme.colour("ink"), size: 11 },
      line: { color: trials.map((trial) => (selection.size && !selection.has(trial.index) ? 0 : 1 + looks.indexOf(trial.group))),
        cmin: 0, cmax: looks.length, colorscale: colours.map((colour, place) => [place / (colours.length - 1), colour]) },
      unselected: { line: { color: theme.colour("line"), opacity: 0.4 } },
    }],
    needsWebGL: true, order: trials, minWidth: 84 * dimensions.length,
    layout: layout({ uirevision: `cleared ${selection.cleared}`, margin: { l: 24 + 6.5 * Math.min(longest, 30), r: 60, t: 110, b: 30 }, height: theme.isNarrow ? 420 : 520 }),
    words: `${counted(trials.length, "trial")} over ${counted(dimensions.length, "axis").replace("axiss", "axes")}, coloured by group.`
      + (hidden ? ` ${counted(hidden, "trial")} without all of these metrics ${hidden === 1 ? "is" : "are"} left out.` : ""),
    table: { columns: ["trial", "group", ...varying, ...metrics], rows: () => trials.map((trial) => [trial.name, trial.group,
      ...varying.map((knob) => String(trial.knobs[knob])), ...metrics.map((metric) => figureText(trial, metric))]) },
  };
}

const COSTS = {
  run_s: ["time of the runs [min]", 60], worker_cpu_s: ["CPU time of the workers [min]", 60], device_s: ["time of the devices [min]", 60],
  trainings: ["trainings", 1],
};

function figureProgress(data) {
  const steps = data.steps.hypervolume ? data.steps : { hypervolume: [], trial: [] };
  const [title, unit] = COSTS[choice("progress-cost")];
  const x = (steps[choice("progress-cost")] || []).map((value) => value / unit);
  const trials = steps.trial.map((number) => data.trials.find((trial) => trial.number !== null && trial.number === number) || null);
  const looks = theme.group("front");
  const last = steps.hypervolume[steps.hypervolume.length - 1];
  return {
    traces: [{
      type: "scatter", mode: "lines+markers", x, y: steps.hypervolume, line: { shape: "hv", color: looks, width: 2 },
      marker: { color: looks, size: trials.map((trial) => (trial ? 7 : 0.1)) }, customdata: trials.map((trial) => (trial ? trial.index : -1)),
      ...marked(trials), hoverinfo: "text", showlegend: false,
      hovertext: trials.map((trial, place) => (trial ? `hypervolume ${short(steps.hypervolume[place])}<br>${hoverText(data, trial)}`
        : `end: hypervolume ${short(steps.hypervolume[place])}`)),
    }],
    layout: layout({ xaxis: axis(title, { rangemode: "tozero" }), yaxis: axis("hypervolume", { rangemode: "tozero" }), uirevision: kept(title) }),
    words: last === undefined ? "No hypervolume yet: it needs the baseline and a model within the limits."
      : `Hypervolume ${short(last)} after ${counted(steps.trial.length - 1, "model")} within the limits.`,
    walk: trials.filter(Boolean),
    table: { columns: ["trial", "hypervolume", title], rows: () => steps.trial.map((number, place) => [number === null ? "end" : `trial ${number}`,
      short(steps.hypervolume[place]), short(x[place])]) },
  };
}

function figurePredicted(data) {
  const known = data.predictions, quality = data.quality;
  const trials = data.trials.filter((trial) => trial.number !== null && known[trial.number]);
  const errors = trials.map((trial) => trial.figures[quality].value - trial.predicted);
  const values = trials.flatMap((trial) => [trial.predicted, trial.figures[quality].value]);
  const ends = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  return {
    traces: [
      { type: "scatter", mode: "lines", x: ends, y: ends, line: { color: theme.colour("quiet"), dash: "dot" }, hoverinfo: "skip", showlegend: false },
      { type: "scatter", mode: "markers", x: trials.map((trial) => trial.predicted), y: trials.map((trial) => trial.figures[quality].value),
        customdata: trials.map((trial) => trial.index), ...marked(trials), showlegend: false,
        error_x: { type: "data", array: trials.map((trial) => trial.error), thickness: 1, width: 0, color: theme.colour("quiet") },
        error_y: bars(trials, quality), hovertext: trials.map((trial) => hoverText(data, trial)), hoverinfo: "text",
        marker: { size: 9, color: trials.map((trial) => theme.group(trial.group)), symbol: trials.map((trial) => GROUP_LOOKS[trial.group].symbol) } },
    ],
    layout: layout({ xaxis: axis(`predicted ${quality}`), yaxis: axis(`confirmed ${quality}`) }),
    words: data.calibration.length ? `${data.calibration.join(". ")}.` : "No trial has both yet.",
    walk: [...trials].sort((one, other) => one.predicted - other.predicted),
    table: { columns: ["trial", "plan", "predicted", "95 % interval", "confirmed", "difference", "within"], rows: () => trials.map((trial, place) => [
      trial.name, trial.plan, short(trial.predicted, quality),
      known[trial.number].interval.map((end) => short(end, quality)).join(" to "), withInterval(trial.figures[quality], quality),
      short(errors[place], quality), known[trial.number].holds ? "yes" : "no"]) },
  };
}

/* Minutes since the first run started, without the breaks between runs. `spans` are the times with a run. */
function withoutBreaks(spans) {
  return (second) => {
    let before = 0;
    for (const [start, end] of spans) {
      if (second <= end) return (before + Math.max(0, second - start)) / 60;
      before += end - start;
    }
    return before / 60;
  };
}

function figureTimeline(data) {
  const line = data.timeline;
  const minute = withoutBreaks(line.at_work);
  const names = line.lanes.map((lane) => lane.name);
  const laneText = (name) => {
    const lane = line.lanes.find((one) => one.name === name);
    return `${plain(name)}<br>idle ${(100 * lane.idle_share).toFixed(0)} %`;
  };
  const seconds = line.stage.words.map((_, stage) => line.wall_s.reduce((sum, wall, place) => sum + (line.stage.index[place] === stage ? wall : 0), 0));
  const largest = line.stage.words.map((_, stage) => stage).sort((one, other) => seconds[other] - seconds[one]);
  const colours = STAGE_COLOURS[theme.name];
  const traces = largest.map((stage, rank) => {
    const x = [], y = [], text = [];
    line.stage.index.forEach((of, place) => {
      if (of !== stage) return;
      const [from, to] = [minute(line.start[place]), minute(line.start[place] + line.wall_s[place])];
      const lane = laneText(line.lane.words[line.lane.index[place]]);
      const words = `${plain(line.stage.words[stage])} ${plain(line.detail.words[line.detail.index[place]])}<br>${short(line.wall_s[place])} s, of them ${short(line.cpu_s[place])} s of a CPU`;
      x.push(from, (from + to) / 2, to, null);
      y.push(lane, lane, lane, null);
      text.push(words, words, words, "");
    });
    return { type: "scatter", mode: "lines", name: line.stage.words[stage], x, y, text, hoverinfo: "text", connectgaps: false,
      line: { width: theme.isNarrow ? 14 : 22, color: rank < colours.length ? colours[rank] : theme.colour("quiet") } };
  });
  const total = line.at_work.reduce((sum, [start, end]) => sum + end - start, 0);
  const ends = line.at_work.slice(0, -1).map(([, end]) => minute(end));
  return {
    traces,
    layout: layout({ height: (theme.isNarrow ? 160 + 24 * traces.length : 150) + 56 * names.length,
      ...(theme.isNarrow ? { legend: { orientation: "h", y: -0.4, yanchor: "top" } } : {}), dragmode: theme.isTouch ? false : "zoom", xaxis: axis("minutes of the runs"),
      yaxis: axis("", { type: "category", automargin: true, range: [-0.6, names.length - 0.4], categoryorder: "array", categoryarray: names.map(laneText).reverse(), showgrid: false }),
      shapes: ends.map((x) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, line: { color: theme.colour("quiet"), dash: "dot", width: 1 } })) }),
    words: line.lanes.length ? `${counted(line.runs, "run")}, ${short(total / 60)} minutes. `
      + line.lanes.map((lane) => `${lane.name} was idle for ${(100 * lane.idle_share).toFixed(0)} % of its time.`).join(" ") : "No stage has run yet.",
    table: { columns: ["where", "stage", "times", "seconds", "CPU-seconds"], rows: () => timelineRows(line) },
  };
}

function timelineRows(line) {
  const sums = new Map();
  line.stage.index.forEach((stage, place) => {
    const key = `${line.lane.index[place]} ${stage}`;
    const sum = sums.get(key) || { lane: line.lane.words[line.lane.index[place]], stage: line.stage.words[stage], times: 0, wall: 0, cpu: 0 };
    sums.set(key, { ...sum, times: sum.times + 1, wall: sum.wall + line.wall_s[place], cpu: sum.cpu + line.cpu_s[place] });
  });
  const rows = [...sums.values()].map((sum) => [sum.lane, sum.stage, String(sum.times), sum.wall.toFixed(0), sum.cpu.toFixed(0)]);
  return [...rows, ...line.lanes.map((lane) => [lane.name, "idle", "", (lane.there_s - lane.busy_s).toFixed(0), ""])];
}

const FIGURES = {
  front: figureFront, space: figureSpace, parallel: figureParallel, progress: figureProgress, predicted: figurePredicted,
  effects: figureEffects, timeline: figureTimeline,
};
