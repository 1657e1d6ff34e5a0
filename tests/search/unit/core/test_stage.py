"""Users read what a stage does, not its name in our code."""

from __future__ import annotations

import pytest

from vitsearch.core.stage import Stage


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_words_without_the_spelling_of_code(stage):
    assert stage.words
    assert "_" not in stage.words


def test_no_two_stages_have_the_same_words():
    assert len({stage.words for stage in Stage}) == len(Stage)
