"""The report in a real browser: Chromium, without a network. Skipped where there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from support.browser import opened, selected
from support.report_server import TOKEN, server
from vitsearch.core.figures import Figure, Metrics
from vitsearch.report.page import page
from vitsearch.report.timeline import lanes
from vitsearch.report.trials import CONFIRMED
from vitsearch.storage.ledger.costs import Run, StageRun

pytestmark = pytest.mark.long

MANY = 1000
SLOWER = 1.5
"""How much longer a report of 1,000 trials may take than an empty page of plotly."""
NASTY = "<img src=x onerror=document.title='broken'>"


def test_every_figure_is_drawn_without_a_complaint(tab):
    figures = tab.query_selector_all("[data-figure] .plot")
    assert len(figures) == 7
    for figure in figures:
        figure.scroll_into_view_if_needed()
        tab.wait_for_function("(plot) => plot.querySelector('.plot-container')", arg=figure)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desktop"])
def test_nothing_is_wider_than_the_window(browser, file, scheme, size):
    viewport = {"width": size[0], "height": size[1]}
    with opened(browser, file, viewport=viewport, color_scheme=scheme) as (tab, complaints):
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert complaints == []


LIGHTNESS = """
const parts = (colour) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const straight = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
const lightness = (colour) => {
  const [r, g, b] = parts(colour).map((one) => straight(one / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [low, high] = [lightness(one), lightness(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""
"""Contrast by WCAG 2."""
OF_TEXT = f"""(element) => {{
  {LIGHTNESS}
  const ground = (one) => {{
    while (one && parts(getComputedStyle(one).backgroundColor)[3] === 0) one = one.parentElement;
    return one ? getComputedStyle(one).backgroundColor : "white";
  }};
  const isDrawn = element instanceof SVGElement;
  const look = getComputedStyle(element);
  return contrast(isDrawn ? look.fill : look.color, ground(isDrawn ? element.closest(".plot") : element));
}}"""
OF_MARKS = f"""() => {{
  {LIGHTNESS}
  const colours = [...[...Object.values(GROUP_LOOKS), ...Object.values(VERDICT_LOOKS)].map((look) => look[theme.name]),
    ...STAGE_COLOURS[theme.name]];
  return colours.map((colour) => contrast(colour, theme.colour("ground")));
}}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_aa(browser, file, scheme):
    with opened(browser, file, color_scheme=scheme) as (tab, _):
        tab.check("#points-table tbody tr:nth-child(2) input")  # a marked row too
        texts = tab.query_selector_all("h1, h2, p, a, label, button, select, th, td, code, summary, .plot text")
        shown = [text for text in texts if text.is_visible() and text.text_content().strip()]
        assert len(shown) > 50
        low = {text.text_content()[:40]: ratio for text in shown if (ratio := text.evaluate(OF_TEXT)) < 4.5}
        assert low == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out_from_the_ground(browser, file, scheme):
    with opened(browser, file, color_scheme=scheme) as (tab, _):
        ratios = tab.evaluate(OF_MARKS)
        assert len(ratios) == 19
        assert min(ratios) >= 3.0


def test_everything_is_reached_with_the_tab_key(tab):
    reached = (
        """[...document.querySelectorAll("main select, main button:not([hidden]), main input, .plot, main summary")]"""
    )
    wanted = tab.evaluate(f"{reached}.length")
    seen = tab.evaluate(f"{reached}.filter((one) => one.tabIndex >= 0).length")
    assert wanted > 20
    assert seen == wanted
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"


def test_every_control_has_a_name(tab):
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("select, button:not([hidden]), input, .plot, [role=region]")]
          .filter((one) => !(one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim()))
          .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_every_figure_is_also_a_table(tab):
    for figure in tab.query_selector_all("[data-figure]"):
        figure.scroll_into_view_if_needed()
        tab.wait_for_function("(figure) => figure.querySelector('figcaption').textContent", arg=figure)
        figure.query_selector("summary").click()
        assert figure.wait_for_selector("table tbody tr").inner_text()


def test_columns_sort(tab):
    tab.select_option("#points-shown", "all")
    cells = """[...document.querySelectorAll("#points-table tbody tr")]
      .map((row) => parseFloat(row.cells[1].textContent)).filter((one) => !isNaN(one))"""
    tab.click("#points-table th[data-key=trial] button")
    rising = tab.evaluate(cells)
    assert rising == sorted(rising)
    tab.click("#points-table th[data-key=trial] button")
    assert tab.evaluate(cells) == rising[::-1]
    assert tab.get_attribute("#points-table th[data-key=trial]", "aria-sort") == "descending"


@pytest.mark.parametrize("options", [(), ("--device", "nano")])
def test_the_line_that_ships_a_model_is_copied(browser, data, tmp_path, options):
    path = tmp_path / "report.html"
    path.write_text(page(replace(data, ship_options=options).to_json(), live=False))
    more = "".join(f" {option}" for option in options)
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as (tab, _):
        for name, model in ((f"trial {data.knee}", data.knee), ("baseline", "baseline")):
            tab.click(f"[aria-label='Copy the line that ships {name}']")
            tab.wait_for_selector(f"text=Copied: vitsearch ship fake {model}{more}")
            assert tab.evaluate("navigator.clipboard.readText()") == f"vitsearch ship fake {model}{more}"


def test_on_paper_everything_is_drawn_on_white(browser, file):
    with opened(browser, file, color_scheme="dark") as (tab, complaints):
        tab.evaluate("forPrint(true)")
        tab.wait_for_function("document.querySelectorAll('[data-figure] .plot-container').length === 7")
        assert tab.evaluate("theme.colour('ground')") == "#ffffff"
        assert tab.pdf().startswith(b"%PDF")
        tab.evaluate("forPrint(false)")
        assert tab.evaluate("theme.colour('ground')") != "#ffffff"
        assert complaints == []


def test_texts_from_outside_stay_texts(browser, data, tmp_path):
    trials = tuple(
        replace(trial, reason=NASTY, notes=(NASTY,), plan=replace(trial.plan, backbone=NASTY)) for trial in data.trials
    )
    chosen = tuple(dict(knobs, backbone=NASTY if index % 2 else "b") for index, knobs in enumerate(data.chosen))
    effects = tuple(
        replace(effect, backbones=tuple(replace(fake, backbone=NASTY) for fake in effect.backbones))
        for effect in data.effects
    )
    nasty = replace(data, study=NASTY, study_argument=NASTY, trials=trials, chosen=chosen, effects=effects)
    path = tmp_path / "nasty.html"
    path.write_text(page(nasty.to_json(), live=False))
    with opened(browser, path) as (tab, complaints):
        for figure in tab.query_selector_all("[data-figure]"):
            figure.scroll_into_view_if_needed()
            figure.query_selector("summary").click()
        tab.select_option("#points-shown", "all")
        tab.focus("[data-figure=front] .plot")
        tab.keyboard.press("Home")
        tab.wait_for_selector("[data-figure=front] .hovertext")
        assert tab.query_selector_all("img") == []
        assert tab.title() != "broken"
        assert complaints == []


def test_a_study_without_trials_has_a_page(browser, data, tmp_path):
    empty = replace(
        data, trials=(), chosen=(), steps=(), effects=(), stages=(), lanes=(), runs=(), conditions=(), knee=None
    )
    path = tmp_path / "empty.html"
    path.write_text(page(empty.to_json(), live=False))
    with opened(browser, path) as (tab, complaints):
        for figure in tab.query_selector_all("[data-figure]"):
            figure.scroll_into_view_if_needed()
        assert "0 models on the front" in tab.text_content("#summary")
        assert complaints == []


def test_a_board_that_runs_share_is_not_called_idle(browser, data, tmp_path):
    runs = (Run(1, "here", 2, 0.0, 600.0), Run(2, "there", 2, 0.0, 600.0))
    stages = tuple(StageRun(run.id, "measure", "", 300.0 * place, 300.0, 1.0, "pi") for place, run in enumerate(runs))
    path = tmp_path / "shared.html"
    path.write_text(page(replace(data, runs=runs, stages=stages, lanes=lanes(runs, stages)).to_json(), live=False))
    with opened(browser, path) as (tab, complaints):
        tab.query_selector("[data-figure=timeline]").scroll_into_view_if_needed()
        tab.wait_for_selector("[data-figure=timeline] .js-plotly-plot")
        words = tab.text_content("[data-figure=timeline] figcaption").replace("\u00a0", " ")
        assert words.startswith("2 runs, 10 minutes. pi was idle for 0 % of its time.")
        assert complaints == []


def test_a_new_trial_comes_to_the_live_page_by_itself(browser, make_study):
    study = make_study(trials=1)
    elsewhere = ThreadPoolExecutor(1)  # playwright has an event loop in this thread
    elsewhere.submit(study.run).result()
    with server(f"{study.folder / 'fake.db'}") as port:
        with opened(browser, f"http://127.0.0.1:{port}/{TOKEN}/") as (tab, requested):
            tab.check("#points-table tbody tr:nth-child(1) input")
            before, kept = tab.evaluate("page.data.trials.length"), selected(tab)
            elsewhere.submit(study.with_space(search__trials=3).run).result()
            count = len(study.records()) + 1  # and the baseline
            tab.wait_for_function("(count) => page.data.trials.length === count", arg=count)
            assert count > before
            assert selected(tab) == kept
            assert "new trial" in tab.text_content("#live")
            assert {url.split("/")[3] for url in requested} == {TOKEN}  # no complaint, and nobody else was asked
        with opened(browser, f"http://127.0.0.1:{port}/{TOKEN}/") as (tab, _):
            assert tab.evaluate("page.data.trials.length") == count
    elsewhere.shutdown()


@pytest.fixture(scope="module")
def large(data):
    """The report with its trials repeated, each with other figures, until there are 1,000."""
    trials, chosen = list(data.trials), list(data.chosen)
    while len(trials) < MANY:
        index = 1 + len(trials) % (len(data.trials) - 1)  # not the baseline
        model, factor = data.trials[index], 1.0 + len(trials) / MANY
        figures = {
            name: Figure(
                *(None if value is None else value * factor for value in (figure.value, figure.low, figure.high)),
                figure.reason,
            )
            for name, figure in model.metrics.figures.items()
        }
        group = CONFIRMED if model.is_model else model.group
        trials.append(replace(model, number=len(trials), metrics=Metrics(figures), group=group))
        chosen.append(data.chosen[index])
    run = Run(1, "here", 4, 0.0, 50.0 * MANY)
    stages = tuple(
        StageRun(1, "train", "", 10.0 * index, 9.0, 8.5, f"worker here/{index % 4}") for index in range(5 * MANY)
    )
    return replace(
        data, trials=tuple(trials), chosen=tuple(chosen), runs=(run,), stages=stages, lanes=lanes((run,), stages)
    )


def test_a_report_of_1000_trials_is_small_and_soon_ready(browser, large, tmp_path):
    path, empty = tmp_path / "large.html", tmp_path / "empty.html"
    path.write_text(page(large.to_json(), live=False))
    assert path.stat().st_size <= 6e6
    empty.write_text(empty_page())
    times = [(ready_cpu_s(browser, path), ready_cpu_s(browser, empty)) for _ in range(3)]
    ours, plotlys = (min(column) for column in zip(*times, strict=True))
    assert ours <= SLOWER * plotlys


def empty_page():
    """What plotly itself writes for a figure without anything in it; it says when it has drawn that."""
    from plotly.graph_objects import Figure as PlotlyFigure

    ready = "document.documentElement.dataset.ready = 'yes'"
    text = PlotlyFigure().to_html(include_plotlyjs=True, post_script=ready)
    return text.replace("<html>", "<!doctype html><html>", 1)


def ready_cpu_s(browser, file):
    """The CPU time of the page's thread until it is ready: others use this machine too, so wall time is noise."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as window:
        tab = window.new_page()
        tools = window.new_cdp_session(tab)
        tools.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.goto(file.as_uri(), wait_until="commit")
        tab.wait_for_selector("html[data-ready]", state="attached")
        metrics = tools.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
