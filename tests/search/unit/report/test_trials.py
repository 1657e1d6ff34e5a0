"""The choices of a plan, by the words of a space file."""

from __future__ import annotations

from dataclasses import replace

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression
from vitsearch.report.trials import knobs
from vitsearch.space.knobs import Knobs


def test_a_rectangle_is_named_by_its_sides(plan):
    assert knobs(plan)["resolution"] == 28.0
    assert knobs(replace(plan, resolution=ImageSize(64, 96)))["resolution"] == "64x96"


def test_the_words_are_those_of_a_space_file(plan):
    assert set(knobs(plan)) <= set(Knobs.model_fields)


def test_a_plan_that_cuts_nothing_has_no_scope(plan):
    cut = replace(plan, compression=Compression(0.5, scope="global"))
    assert [knobs(variant)["pruning_scope"] for variant in (plan, cut)] == ["none", "global"]


def test_a_file_for_any_batch_is_open(plan):
    any_batch = replace(plan, deployments=(replace(plan.deployment, batch=None),))
    assert [knobs(variant)["batch"] for variant in (plan, any_batch)] == ["1", "open"]
