"""The values that a plan has for the knobs of a space file."""

from __future__ import annotations

from dataclasses import replace

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression
from vitsearch.space.knobs import Knobs
from vitsearch.study.knob_values import NUMBERS, SHAPE, knob_values


def test_every_knob_of_a_space_file_has_a_value(plan):
    assert set(knob_values(plan)) == set(Knobs.model_fields) - {"width_multiple"} | {SHAPE}
    assert set(NUMBERS) <= set(Knobs.model_fields)


def test_what_a_plan_does_not_have_is_none(plan):
    values = knob_values(plan)
    assert (values["window_size"], values["token_pruning_method"]) == (None, None)


def test_a_rectangle_counts_as_the_square_of_as_many_pixels_and_has_its_shape_beside_it(plan):
    square, rectangle = (knob_values(replace(plan, resolution=ImageSize.of(size))) for size in (32, (16, 64)))
    assert (square["resolution"], square[SHAPE]) == (32.0, None)
    assert (rectangle["resolution"], rectangle[SHAPE]) == (32.0, "16x64")


def test_an_open_batch_and_positions_are_words(plan):
    cut = Compression(token_pruning_ratio=0.3, token_pruning_method="topk", token_pruning_at=(2, 4))
    open_batch = replace(plan, compression=cut, deployments=(replace(plan.deployment, batch=None),))
    values = knob_values(open_batch)
    assert (values["batch"], values["token_pruning_at"]) == ("open", "2,4")
