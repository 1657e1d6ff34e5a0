"""What a task hands over."""

from __future__ import annotations

import math

import pytest

from vitsearch.core.figures import Figure
from vitsearch.errors import StageError
from vitsearch.tasks import Judged


@pytest.mark.parametrize("figure", [Figure(math.nan), Figure(0.5, 0.4, math.inf)], ids=["value", "interval"])
def test_a_figure_that_is_not_finite_is_refused(figure):
    with pytest.raises(StageError, match="in cosine or its interval") as failure:
        Judged({"cosine": figure}).refuse_not_finite("export")
    assert failure.value.kind == "not_finite"


def test_a_figure_without_a_value_is_not_refused():
    Judged({"cosine": Figure(None, reason="no image"), "neighbours": Figure(0.5)}).refuse_not_finite("export")
