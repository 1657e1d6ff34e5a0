"use strict";
/* Colours that people with colour-blindness tell apart (Okabe and Ito 2008), on light and on dark ground. Groups also
   differ in their symbol. */

const GROUP_LOOKS = {
  "front": { light: "#0072b2", dark: "#56b4e9", symbol: "circle", solid: "circle", size: 11 },
  "near the front": { light: "#007d5b", dark: "#2fcf9f", symbol: "diamond", solid: "diamond", size: 9 },
  "dominated": { light: "#b06d00", dark: "#e69f00", symbol: "square", solid: "square", size: 7 },
  "over a limit": { light: "#d55e00", dark: "#ff8a3d", symbol: "x", solid: "x", size: 7 },
  "not trained": { light: "#66707a", dark: "#98a3ae", symbol: "circle-open", solid: "circle-open", size: 6 },
  "not measured": { light: "#66707a", dark: "#98a3ae", symbol: "cross", solid: "cross", size: 6 },
  "failed": { light: "#66707a", dark: "#98a3ae", symbol: "cross", solid: "cross", size: 6 },
  "baseline": { light: "#1a1f24", dark: "#e9edf1", symbol: "star", solid: "diamond-open", size: 13 },
};
const STAGE_COLOURS = {
  light: ["#0072b2", "#b06d00", "#007d5b", "#d55e00", "#a8457c", "#2f7ba8", "#6b6400"],
  dark: ["#56b4e9", "#e69f00", "#2fcf9f", "#ff8a3d", "#e39cc4", "#a9d8f5", "#f0e442"],
};

const VERDICT_LOOKS = {
  better: { light: "#007d5b", dark: "#2fcf9f", symbol: "circle", sign: "●", words: "better" },
  worse: { light: "#d55e00", dark: "#ff8a3d", symbol: "diamond", sign: "◆", words: "worse" },
  nothing: { light: "#66707a", dark: "#98a3ae", symbol: "square", sign: "■", words: "gains little" },
  open: { light: "#66707a", dark: "#98a3ae", symbol: "circle-open", sign: "○", words: "open" },
};

const PAPER_WIDTH = 680, PAPER_HEIGHT = 340;

const theme = {
  printing: false,
  get name() {
    if (this.printing) return "light";
    const chosen = document.documentElement.dataset.theme;
    if (chosen === "light" || chosen === "dark") return chosen;
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  },
  colour(variable) { return getComputedStyle(document.documentElement).getPropertyValue(`--${variable}`).trim(); },
  group(group) { return GROUP_LOOKS[group][this.name]; },
  get isNarrow() { return innerWidth < 640; },
  get isTouch() { return matchMedia("(pointer: coarse)").matches; },
};

function axis(title, more) {
  return {
    title: { text: title, standoff: 8 }, gridcolor: theme.colour("line"), linecolor: theme.colour("quiet"), zeroline: false, ...more,
  };
}

/* The axis of these values of a metric, its numbers in full where it is logarithmic. */
function metricAxis(data, metric, values, more) {
  if (!isLogarithmic(data, metric) || !values.length) return axis(axisTitle(data, metric), { type: "linear", ...more });
  return axis(axisTitle(data, metric), { type: "log", ...logTicks(values), ...more });
}

function logTicks(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  const digits = high - low < 0.7 ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : high - low < 2.5 ? [1, 2, 3, 5] : [1];
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, place) => Math.floor(low) + place);
  const tickvals = powers.flatMap((power) => digits.map((digit) => digit * 10 ** power));
  return { tickvals, ticktext: tickvals.map((value) => String(Number(value.toPrecision(3)))) };
}

function layout(more) {
  const ink = theme.colour("ink");
  return {
    paper_bgcolor: theme.colour("ground"), plot_bgcolor: theme.colour("ground"), font: { color: ink, size: 13 },
    margin: { l: 72, r: 16, t: 16, b: 52 }, hovermode: "closest", dragmode: theme.isTouch ? false : "select",
    height: theme.isNarrow ? 380 : 480, uirevision: "kept", autosize: true, width: theme.printing ? PAPER_WIDTH : undefined, selectionrevision: `cleared ${selection.cleared}`,
    hoverlabel: { bgcolor: theme.colour("raised"), bordercolor: theme.colour("quiet"), font: { color: ink, size: 12 }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.colour("quiet"), activecolor: theme.colour("accent") },
    ...more,
  };
}
