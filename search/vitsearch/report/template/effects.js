"use strict";
/* What each knob did to an objective: a row for each effect, with a dot and its 95 % interval, under its backbone. */

const EVERY = "every backbone", MOST_AT_ONCE = 4;
const LETTER = 6.5, LINE = 15;  // pixels, of text of 12 pixels

function effectsOn(data, metric) {
  return data.effects.find((one) => one.objective === metric) || { measured: 0, predicted: 0, importances: {}, backbones: [] };
}

/* The backbones to choose from, and the choice to begin with: all, unless these are many rows. */
function effectBackbones(data) {
  const models = new Map();
  for (const { backbone, models: count } of data.effects.flatMap((one) => one.backbones)) models.set(backbone, Math.max(count, models.get(backbone) || 0));
  const names = [...models.keys()];
  const most = [...names].sort((one, other) => models.get(other) - models.get(one))[0];
  return { names: [EVERY, ...names], first: names.length > MOST_AT_ONCE ? most : EVERY };
}

function figureEffects(data) {
  const metric = choice("effects-metric"), wanted = choice("effects-backbone");
  const found = effectsOn(data, metric);
  const backbones = found.backbones.filter((one) => wanted === EVERY || one.backbone === wanted);
  const scale = effectScale(data.metrics[metric]);
  const rows = backbones.flatMap((one) => [{ heading: one }, ...one.effects.map((effect) => ({ effect, backbone: one.backbone }))]);
  const form = effectForm(rows, scale);
  const effects = rows.filter((row) => row.effect);
  const range = effectRange(effects.map((row) => row.effect), scale);
  return {
    traces: effectTraces(effects, scale, range),
    layout: effectLayout(rows, form, scale, range, metric),
    words: effectWords(found, backbones, effects, scale, range),
    table: { columns: ["backbone", "knob", "at", "before", "after", `change${inUnit(scale)}`, "low", "high", "models", "is"], rows: () => backbones.flatMap((one) => (one.effects.length
      ? one.effects.map((effect) => [one.backbone, effect.knob, effect.at, effect.start, effect.to, ...["estimate", "low", "high"].map((end) => scale.text(effect[end])), String(effect.models), VERDICT_LOOKS[effect.verdict].words])
      : [[one.backbone, one.about, "", "", "", "", "", "", String(one.models), ""]])) },
  };
}

/* Costs change by factors: on the axis, half and double are equally far from no change. */
const NICE_PERCENTS = [0, -50, 100, -90, 900, -20, 20, 50, 200, -70, 400, 10, -10, -30, 30, -80, -40, 40, -60, 70, 150, 300, -99, 5, -5, 2, -2, 1, -1, 0.5, -0.5, 0.2, -0.2, 0.1, -0.1];
const PERCENT = {
  unit: "%", text: (share) => fixed(100 * share, Math.abs(share) < 0.0995 ? 1 : 0), place: (share) => Math.log1p(Math.max(share, -1 + 1e-9)),
  ticks([low, high], most) {
    const apart = (high - low) / most;
    const kept = [];
    for (const percent of NICE_PERCENTS) {
      const at = Math.log1p(percent / 100);
      if (at >= low && at <= high && kept.every((other) => Math.abs(other.at - at) >= apart)) kept.push({ percent, at });
    }
    return { tickvals: kept.map((tick) => tick.at), ticktext: kept.map(({ percent }) => `${signed(String(percent))} %`) };
  },
};
const POINTS = { unit: "points", text: (share) => fixed(100 * share, 1), place: (share) => 100 * share, ticks: (_, most) => ({ nticks: most }) };

/* Costs change by a share, shares by points, and any other quality by its own unit. */
function effectScale(look) {
  if (look?.is_share) return POINTS;
  if (!look?.is_quality) return PERCENT;
  return { ...POINTS, unit: look.unit, text: (change) => String(Number(change.toPrecision(3))), place: (change) => change };
}

function inUnit(scale) { return scale.unit ? ` [${scale.unit}]` : ""; }

function fixed(value, digits) { return value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1"); }

function signed(text) { return Number(text) > 0 ? `+${text}` : text.replace("-", "\u2212"); }

/* From the worst to the best estimate, no effect among them. An interval may lead out of it, but no further than the estimates
   are apart: one wide interval would press all others together. */
function effectRange(effects, scale) {
  const places = (end) => effects.map((effect) => scale.place(effect[end]));
  const [low, high] = [Math.min(0, ...places("estimate")), Math.max(0, ...places("estimate"))];
  const most = Math.max(high - low, 1e-3);
  const [from, to] = [Math.max(low - most, Math.min(low, ...places("low"))), Math.min(high + most, Math.max(high, ...places("high")))];
  const edge = 0.04 * Math.max(to - from, 1e-3);
  return [from - edge, to + edge];
}

function effectTraces(rows, scale, range) {
  return Object.entries(VERDICT_LOOKS).map(([verdict, look]) => {
    const own = rows.filter(({ effect }) => effect.verdict === verdict);
    const [middle, low, high] = ["estimate", "low", "high"].map((end) => own.map(({ effect }) => Math.min(range[1] + 1, Math.max(range[0] - 1, scale.place(effect[end])))));
    const colour = look[theme.name];
    return {
      type: "scatter", mode: "markers", name: look.words, x: middle, y: own.map((row) => row.y), marker: { size: 10, color: colour, symbol: look.symbol },
      error_x: { type: "data", symmetric: false, array: high.map((end, place) => end - middle[place]), arrayminus: low.map((end, place) => middle[place] - end),
        color: colour, thickness: 1.75, width: 3 },
      hoverinfo: "text", hovertext: own.map(({ effect, backbone }) => [`<b>${plain(backbone)}</b>`, plain(effectName(effect)),
        `${effectText(effect, scale)} ${scale.unit}`.trim(), `${look.words}; ${counted(effect.models, "model")} with the change`].join("<br>")),
    };
  }).filter((trace) => trace.x.length);
}

function effectName(effect) { return `${effect.knob}${effect.at ? ` (${effect.at})` : ""}: ${effect.start} → ${effect.to}`; }

function effectText(effect, scale) {
  const [middle, low, high] = ["estimate", "low", "high"].map((end) => signed(scale.text(effect[end])));
  return `${middle} (${low} to ${high})`;
}

/* Names stand left of the bars and numbers right of them; on a phone both stand above the bar. Places the rows, in place: `top`
   of a row and `y` of its bar are distances from the top of the figure, in pixels. */
function effectForm(rows, scale) {
  const width = theme.printing ? PAPER_WIDTH : Math.min(innerWidth, 1200) - 26;
  const isAbove = width < PAPER_WIDTH;
  for (const row of rows) row.numbers = row.effect ? effectText(row.effect, scale) : "";
  const right = 20 + LETTER * Math.max(0, ...rows.map((row) => row.numbers.length));
  for (const row of rows) row.name = row.effect ? wrapped(effectName(row.effect), Math.floor((isAbove ? width - right - 16 : 0.4 * width) / LETTER)) : [];
  let bottom = 0;
  for (const row of rows) {
    row.top = bottom;
    bottom += row.heading ? (isAbove ? 46 : 30) : 11 + LINE * (row.name.length + isAbove);
    row.y = isAbove && row.effect ? bottom - 13 : (row.top + bottom) / 2;
  }
  const lengths = rows.flatMap((row) => (row.heading ? [1.1 * headingFacts(row.heading).join("  ").length] : row.name.map((line) => line.length)));
  const left = isAbove ? 12 : 16 + Math.min(0.42 * width, LETTER * Math.max(0, ...lengths));
  const margin = { l: left, r: isAbove ? 12 : right, t: 40, b: 52 };
  return { isAbove, margin, height: Math.max(80, bottom), ticks: Math.max(3, Math.floor((width - margin.l - margin.r) / 60)) };
}

function effectLayout(rows, form, scale, range, metric) {
  const ink = theme.colour("ink");
  const besides = form.isAbove ? { bgcolor: theme.colour("ground"), yanchor: "bottom", yshift: 6, borderpad: 0 } : { yanchor: "middle" };
  const text = (row, words, more) => ({ y: row.y, xref: "paper", showarrow: false, text: words, font: { size: 12, color: ink }, align: "left", ...more });
  const start = { x: 0, xanchor: "left", xshift: form.isAbove ? 0 : 8 - form.margin.l };
  const end = form.isAbove ? { x: 1, xanchor: "right" } : { x: 1, xanchor: "left", xshift: 8 };
  const annotations = rows.flatMap((row) => (row.heading ? [text(row, headingText(row.heading, form.isAbove ? "<br>" : " &nbsp; "), { ...start, yanchor: "middle", bgcolor: theme.colour("ground"), borderpad: 0, font: { size: 13, color: ink } })]
    : [text(row, row.name.map(plain).join("<br>"), { ...besides, ...start }), text(row, row.numbers, { ...besides, ...end })]));
  const between = rows.filter((row) => row.heading && row.top > 0).map((row) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: row.top, y1: row.top,
    line: { color: theme.colour("line"), width: 1 } }));
  const signs = Object.values(VERDICT_LOOKS).map((look) => `<span style="color:${look[theme.name]}">${look.sign}</span> ${look.words}`);
  const legend = { ...text({ y: 1 }, signs.join(" &nbsp; "), start), yref: "paper", yanchor: "bottom", yshift: 10, font: { size: 13, color: ink } };
  return layout({
    height: form.height + form.margin.t + form.margin.b, margin: form.margin, annotations: [legend, ...annotations], shapes: between, showlegend: false, dragmode: false,
    uirevision: kept(metric, rows.length),
    xaxis: axis(`change of ${metric}${inUnit(scale)}`, { range, ...scale.ticks(range, form.ticks), tickangle: 0, zeroline: true, zerolinecolor: ink, zerolinewidth: 1.5 }),
    yaxis: axis("", { range: [form.height, 0], showticklabels: false, showgrid: false, fixedrange: true }),
  });
}

function headingFacts({ backbone, models, r_squared: share, about, effects }) {
  return [backbone, effects.length ? [counted(models, "model"), ...(share === null ? [] : [`R² ${share.toFixed(2)}`])].join(", ") : about];
}

function headingText(heading, between) {
  const [name, facts] = headingFacts(heading).map(plain);
  return `<b>${name}</b>${between}${facts}`;
}

function effectWords(found, backbones, rows, scale, range) {
  if (!backbones.length) return "No model has this objective yet.";
  const sentences = [`${counted(found.measured, "measured model")}${found.predicted ? ` and ${found.predicted} with a predicted value` : ""}.`];
  sentences.push(...backbones.flatMap((one) => [one.about, ...one.not_stated].map((text) => `${one.backbone}: ${text}.`)));
  const shares = Object.entries(found.importances).filter(([, share]) => share >= 0.01).slice(0, 4).map(([knob, share]) => `${knob} ${(100 * share).toFixed(0)} %`);
  if (shares.length) sentences.push(`Of the variance over all models, single knobs alone explain: ${shares.join("; ")}.`);
  const isCut = rows.some(({ effect }) => scale.place(effect.low) < range[0] || scale.place(effect.high) > range[1]);
  if (isCut) sentences.push("A bar that reaches the edge goes on beyond it.");
  return sentences.join(" ").replaceAll(" %", "\u00a0%");
}
