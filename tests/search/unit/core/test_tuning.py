"""The measured settings of backbones."""

from __future__ import annotations

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.tuning import TUNINGS, Tuning, tuning_of


def test_every_base_that_ships_was_measured():
    assert TUNINGS.keys() == BUILTIN.keys()


def test_a_backbone_that_was_not_measured_has_the_defaults():
    assert tuning_of("deit_tiny_patch16_224") == Tuning()
