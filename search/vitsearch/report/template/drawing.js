"use strict";
/* Draws the figures, each when it comes into view; keeps them up to date; lets the keyboard walk over their points. */

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: theme.isTouch ? false : "hover", modeBarButtonsToRemove: ["autoScale2d", "toggleSpikelines", "resetCameraLastSave3d"] };

let webGL = null;
function hasWebGL() {
  if (webGL === null) webGL = Boolean(document.createElement("canvas").getContext("webgl"));
  return webGL;
}

class Drawing {
  constructor(name, place, current) {
    Object.assign(this, { name, current, isVisible: false, isDrawn: false, isDirty: true, at: -1 });
    this.caption = element("figcaption", { class: "quiet", id: `${name}-words` });
    this.plot = element("div", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "interactive chart",
      "aria-describedby": `${name}-words`, "aria-label": place.closest("section").querySelector("h2").textContent });
    this.target = element("div");
    this.plot.append(this.target);
    this.behind = element("details", { class: "behind" }, element("summary", {}, "This figure as a table"));
    this.behind.addEventListener("toggle", () => this.fillTable());
    place.append(this.plot, this.caption, this.behind);
    this.plot.addEventListener("keydown", (event) => this.walk(event));
  }

  /* Something has changed: draw now if the reader sees it, else when it comes into view. */
  invalidate() {
    this.isDirty = true;
    if (this.isVisible) this.draw();
  }

  async draw() {
    if (!this.isDirty) return;
    this.isDirty = false;
    const data = this.current();
    this.figure = FIGURES[this.name](data);
    this.caption.textContent = this.figure.words;
    if (this.behind.open) this.fillTable();
    if (this.figure.needsWebGL && !hasWebGL()) {
      this.plot.textContent = "This figure needs WebGL, which this browser does not have or has switched off. The table below has its content.";
      return;
    }
    this.target.style.minWidth = this.figure.minWidth && !theme.printing ? `${this.figure.minWidth}px` : "";
    if (theme.printing && this.name !== "effects") this.figure.layout.height = Math.min(this.figure.layout.height, PAPER_HEIGHT);
    await Plotly.react(this.target, this.figure.traces, this.figure.layout, CONFIG);
    if (!this.isDrawn) this.listen();
    this.isDrawn = true;
    this.plot.style.minHeight = "0";
  }

  listen() {
    this.target.on("plotly_selected", (event) => {
      if (event?.points?.length) selection.set(event.points.map(trialOf).filter((index) => index >= 0));
    });
    this.target.on("plotly_deselect", () => selection.clear());
    this.target.on("plotly_click", (event) => {
      const index = event.points?.length ? trialOf(event.points[0]) : -1;
      if (index >= 0) selection.toggle(index);
    });
    this.target.on("plotly_restyle", () => { if (this.name === "parallel") this.brush(); });
  }

  /* The axes of the parallel coordinates on which the reader has marked a range. */
  brush() {
    const ranges = this.target.data[0].dimensions.filter((dimension) => dimension.constraintrange);
    if (!ranges.length) return selection.set([]);
    const inside = (dimension, place) => {
      const listed = Array.isArray(dimension.constraintrange[0]) ? dimension.constraintrange : [dimension.constraintrange];
      const slack = 1e-6 * (Math.max(...dimension.values) - Math.min(...dimension.values));  // a range may begin at 5e-17
      return listed.some(([low, high]) => dimension.values[place] >= low - slack && dimension.values[place] <= high + slack);
    };
    selection.set(this.figure.order.filter((_, place) => ranges.every((dimension) => inside(dimension, place))).map((trial) => trial.index));
  }

  walk(event) {
    const trials = this.figure?.walk;
    if (!trials || !trials.length) return;
    const last = trials.length - 1;
    const steps = { ArrowRight: Math.min(last, this.at + 1), ArrowLeft: Math.max(0, this.at - 1), Home: 0, End: last };
    if (event.key in steps) {
      this.at = steps[event.key];
      this.show(trials[this.at]);
    } else if ((event.key === "Enter" || event.key === " ") && this.at >= 0) {
      selection.toggle(trials[this.at].index);
      say(`${trials[this.at].name} ${selection.has(trials[this.at].index) ? "selected" : "not selected"}`);
    } else if (event.key === "Escape") {
      Plotly.Fx.unhover(this.target);
      selection.clear();
    } else return;
    event.preventDefault();
  }

  show(trial) {
    const points = this.target.data.flatMap((trace, curveNumber) => {
      const pointNumber = (trace.customdata || []).indexOf(trial.index);
      return pointNumber >= 0 ? [{ curveNumber, pointNumber }] : [];
    });
    if (points.length) Plotly.Fx.hover(this.target, points.slice(0, 1));
    const data = this.current();
    const figures = Object.keys(data.objectives).filter((metric) => drawn(trial, metric)).map((metric) => `${metric} ${figureText(trial, metric)}`);
    say(`${trial.name}, ${trial.group}, ${trial.plan}, ${figures.join(", ")}`);
  }

  fillTable() {
    if (!this.behind.open || !this.figure) return;
    this.behind.querySelector(".scroll")?.remove();
    this.behind.append(scrolling(plainTable(this.figure.table.columns, this.figure.table.rows()), `Table of the figure: ${this.plot.getAttribute("aria-label")}`));
  }
}

function trialOf(point) {
  const indices = point.data.customdata;
  return indices ? indices[point.pointNumber ?? point.pointIndex] : -1;
}

function watchVisibility(drawings) {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const drawing = drawings.find((one) => one.plot === entry.target);
      drawing.isVisible = entry.isIntersecting;
      if (drawing.isVisible) drawing.draw();
    }
  }, { rootMargin: "200px" });
  for (const drawing of drawings) observer.observe(drawing.plot);
}
