"""The figure of what each knob did, in a real browser."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support.browser import opened
from vitsearch.report.page import page
from vitsearch.study.results.effects import BackboneEffects

pytestmark = pytest.mark.long

DRAWN = """() => document.querySelector("[data-figure=effects] .js-plotly-plot").data
  .flatMap(({ x, error_x: bar }) => x.map((at, one) => [at, at - bar.arrayminus[one], at + bar.array[one]]))"""
"""Each dot of the figure of effects, with both ends of its bar."""


def effects_of(tab, objective):
    """The figure of the effects on an objective: its dots and bars, its caption and the rows of its table."""
    tab.select_option("#effects-metric", objective)
    figure = tab.query_selector("[data-figure=effects]")
    figure.scroll_into_view_if_needed()
    tab.wait_for_function(
        "(name) => document.querySelector('[data-figure=effects] .xtitle')?.textContent.includes(name)", arg=objective
    )
    if not figure.query_selector("details[open]"):
        figure.query_selector("summary").click()
    tab.wait_for_selector("[data-figure=effects] tbody tr")
    rows = [row.inner_text().split("\t") for row in figure.query_selector_all("tbody tr")]
    return tab.evaluate(DRAWN), figure.query_selector("figcaption").text_content(), rows


@pytest.mark.parametrize("objective", ["accuracy", "cpu_ms_p50"])
def test_each_effect_is_a_dot_with_its_interval(tab, data, objective):
    drawn, words, rows = effects_of(tab, objective)
    (shown,) = (effect for effect in data.effects if effect.name == objective)
    (fake,) = shown.backbones
    factor = 100 if objective == "accuracy" else 1  # points; the logarithms of shares
    expected = [[factor * end for end in (each.estimate, each.low, each.high)] for each in fake.effects]
    assert len(expected) > 2
    assert sorted(drawn) == [pytest.approx(end, abs=1e-4) for end in sorted(expected)]
    assert [row[1:5] for row in rows] == [[each.knob, each.at, each.start, each.to] for each in fake.effects]
    assert f"fake_vit: {fake.about()}".replace(" %", "\u00a0%") in words


def test_a_backbone_is_looked_at_alone(browser, data, tmp_path):
    effects = tuple(
        replace(each, backbones=(*each.backbones, BackboneEffects("other", 3, None, ()))) for each in data.effects
    )
    path = tmp_path / "two.html"
    path.write_text(page(replace(data, effects=effects).to_json(), live=False))
    with opened(browser, path) as (tab, complaints):
        tab.select_option("#effects-backbone", "other")
        drawn, words, rows = effects_of(tab, "cpu_ms_p50")
        assert drawn == []
        assert "other: 3 models, too few for effects with intervals." in words
        assert [row[:2] for row in rows] == [["other", "3 models, too few for effects with intervals"]]
        assert complaints == []


def test_a_wide_interval_leaves_room_for_the_others(tab):
    low, high = tab.evaluate(
        """effectRange([{ estimate: -0.5, low: -0.6, high: -0.4 }, { estimate: 0.1, low: -0.999, high: 1e9 }],
          PERCENT)"""
    )
    assert -2 < low < math.log(0.5)
    assert math.log(1.1) < high < 2


def test_a_quality_that_is_no_share_changes_in_its_unit(browser, data, tmp_path):
    shown = data.to_json()
    shown["metrics"]["accuracy"] |= {"is_share": False, "unit": "px"}
    path = tmp_path / "pixels.html"
    path.write_text(page(shown, live=False))
    (of_accuracy,) = (effect for effect in data.effects if effect.name == "accuracy")
    with opened(browser, path) as (tab, complaints):
        drawn, _, rows = effects_of(tab, "accuracy")
        assert tab.text_content("[data-figure=effects] .xtitle") == "change of accuracy [px]"
        estimates = [effect.estimate for effect in of_accuracy.backbones[0].effects]
        assert sorted(at for at, _, _ in drawn) == pytest.approx(sorted(estimates), abs=1e-6)
        assert [float(row[5]) for row in rows] == pytest.approx(estimates, rel=0.01)
        assert complaints == []
