"""How a person names one model of a study: the number of its trial, ``baseline`` or ``knee``."""

from __future__ import annotations

from vitsearch.api import StoredStudy
from vitsearch.errors import StudyError

BASELINE, KNEE = "baseline", "knee"


def number_of(stored: StoredStudy, text: str, device: str | None = None) -> int | None:
    """The trial of the model that is named, None for the baseline. ``device`` is a target of ``vitsearch retarget``,
    whose front has a knee of its own."""
    if text == BASELINE:
        return None
    if text == KNEE:
        front = stored.front(device)
        if front.knee is None:
            raise StudyError(f"study {front.study!r} has no knee: no model meets the limits")
        return front.points[front.knee].trial
    if not text.isascii() or not text.isdecimal():
        raise StudyError(f"{text!r} names no model; allowed: the number of a trial, {BASELINE}, {KNEE}")
    return int(text)
