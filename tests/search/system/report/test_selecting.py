"""Choosing trials on the page with mouse, fields and keyboard, in a real browser."""

from __future__ import annotations

import pytest

from support.browser import selected
from vitsearch.report.trials import FRONT

pytestmark = pytest.mark.long


def front_of(data):
    return [trial.number for trial in data.trials if trial.group == FRONT]


def test_hovering_a_point_shows_its_plan(tab, data):
    number = front_of(data)[0]
    place = tab.evaluate(
        """(number) => {
          const plot = document.querySelector("[data-figure=front] .js-plotly-plot");
          const trace = plot.data.find((one) => one.name === "front");
          const at = trace.customdata.findIndex((index) => page.data.trials[index].number === number);
          const { _fullLayout: { xaxis, yaxis } } = plot, box = plot.getBoundingClientRect();
          return [box.x + xaxis._offset + xaxis.d2p(trace.x[at]), box.y + yaxis._offset + yaxis.d2p(trace.y[at])];
        }""",
        number,
    )
    tab.mouse.move(*place)
    tab.wait_for_selector("[data-figure=front] .hovertext")
    shown = tab.text_content("[data-figure=front] .hovertext")
    assert f"trial {number}" in shown
    assert "resolution: " in shown
    assert "cpu_ms_p50" in shown


def test_dragging_over_points_selects_them_everywhere(tab, data):
    box = tab.query_selector("[data-figure=front] .nsewdrag").bounding_box()
    tab.mouse.move(box["x"] + 2, box["y"] + 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3, steps=5)
    tab.mouse.up()
    tab.wait_for_function("selection.size > 0")
    assert set(front_of(data)) <= set(selected(tab))
    marked = tab.query_selector_all("#points-table tr[aria-selected=true]")
    assert len(marked) == len(tab.query_selector_all("#points-table tbody tr"))
    assert tab.text_content("#selected").endswith(f"of {len(data.trials)} selected")


def test_dragging_along_an_axis_selects_what_passes_there(tab, data):
    ranges = """document.querySelector("[data-figure=parallel] .js-plotly-plot").data[0].dimensions
      .filter((one) => one.constraintrange).length"""
    tab.locator("[data-figure=parallel]").scroll_into_view_if_needed()
    axis = tab.wait_for_selector("[data-figure=parallel] .axis-brush .background", state="attached")
    axis.evaluate("(one) => one.scrollIntoView({ block: 'center' })")
    box = axis.bounding_box()
    middle = box["x"] + box["width"] / 2
    tab.mouse.move(middle, box["y"] + box["height"] * 0.6)
    tab.mouse.down()
    tab.mouse.move(middle, box["y"] + box["height"] - 3, steps=5)
    tab.mouse.up()
    tab.wait_for_function("selection.size > 0")
    assert len(selected(tab)) < len(data.trials)
    tab.wait_for_function(f"{ranges} === 1")  # drawn again, it still shows the range
    tab.click("#select-none")
    assert selected(tab) == []
    tab.locator("[data-figure=parallel]").scroll_into_view_if_needed()
    tab.wait_for_function(f"{ranges} === 0")


def test_a_ticked_row_is_marked_in_the_figure(tab, data):
    row = tab.query_selector("#points-table tbody tr:nth-child(2)")
    row.query_selector("input").check()
    index = int(row.get_attribute("data-trial"))
    tab.wait_for_function(
        "document.querySelector('[data-figure=front] .js-plotly-plot').data.some((one) => one.selectedpoints?.length)"
    )
    marked = tab.evaluate(
        """() => document.querySelector("[data-figure=front] .js-plotly-plot").data
          .flatMap((one) => (one.selectedpoints || []).map((place) => one.customdata[place]))"""
    )
    assert marked == [index]


def test_conditions_select_what_meets_them(tab, data):
    tab.select_option("#conditions [data-name=quantization]", "int8_dynamic")
    tab.fill("#conditions [data-name=accuracy]", "0.87")
    expected = [
        trial.number
        for trial in data.trials
        if trial.plan.deployment.precision == "int8_dynamic" and (trial.metrics.value("accuracy") or 0) >= 0.87
    ]
    assert expected
    assert selected(tab) == expected
    tab.select_option("#points-shown", "selected")
    assert len(tab.query_selector_all("#points-table tbody tr")) == len(expected)
    tab.click("#select-none")
    assert selected(tab) == []


def test_the_keyboard_walks_over_points_and_selects(tab):
    tab.focus("[data-figure=front] .plot")
    tab.keyboard.press("Home")
    first = tab.text_content("#spoken")
    tab.wait_for_selector("[data-figure=front] .hovertext")
    tab.keyboard.press("ArrowRight")
    second = tab.text_content("#spoken")
    assert first.startswith(("trial", "baseline"))
    assert "cpu_ms_p50" in second
    assert first != second
    tab.keyboard.press("Enter")
    assert len(selected(tab)) == 1
    assert tab.text_content("#spoken").endswith(" selected")
    tab.keyboard.press("Escape")
    assert selected(tab) == []
