"""How a person names one model of a study: the number of its trial, `baseline` or `knee`."""

from __future__ import annotations

from collections.abc import Callable

from vitsearch.errors import StudyError, did_you_mean
from vitsearch.study.front import Front

BASELINE, KNEE = "baseline", "knee"


def number_of(text: str, read: Callable[[], Front]) -> int | None:
    """The trial of the model that is named, None for the baseline. `read` gives the front that a knee is that of.

    Raises `StudyError` for text that names no model, and for a front without a knee.
    """
    if text == BASELINE:
        return None
    if text == KNEE:
        front = read()
        if front.knee is None:
            raise StudyError(f"study {front.study!r} has no knee: no model meets the limits")
        return front.points[front.knee].trial
    if not text.isascii() or not text.isdecimal():
        hint = did_you_mean(text, (BASELINE, KNEE))
        raise StudyError(f"{text!r} names no model{hint}; allowed: the number of a trial, {BASELINE}, {KNEE}")
    return int(text)
