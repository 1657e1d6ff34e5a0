"""The images of a report, with what is true of them and what models give."""

from __future__ import annotations

import base64
from types import SimpleNamespace

from vitsearch.report.samples import SampleRow, sample_rows


def point_with(*pictures):
    return SimpleNamespace(tally=SimpleNamespace(pictures=lambda: pictures) if pictures else None)


def front_with(**chosen):
    return SimpleNamespace(chosen=chosen)


def test_images_and_masks_come_before_what_each_model_gives():
    front = front_with(baseline=point_with(b"one", b"two"))
    encoded = tuple(base64.b64encode(each).decode() for each in (b"one", b"two"))
    rows = list(sample_rows([["imageA", "maskA"], ["imageB", "maskB"]], front))
    assert rows == [
        SampleRow("image", ("imageA", "imageB")),
        SampleRow("truth", ("maskA", "maskB")),
        SampleRow("baseline", encoded),
    ]


def test_a_model_that_was_not_judged_has_no_row():
    assert [row.name for row in sample_rows([["image", "mask"]], front_with(baseline=point_with()))] == [
        "image",
        "truth",
    ]


def test_a_task_without_pictures_has_no_images():
    assert list(sample_rows(None, front_with(baseline=point_with(b"one")))) == []
