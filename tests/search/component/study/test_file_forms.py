"""What the leaderboard has found about the form of files stays in the study."""

from __future__ import annotations

import pytest

from vitsearch.study.file_forms import FileForms
from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study

MODEL, OTHER = (Unpruned("one", "onnxruntime", "cpu", precision) for precision in ("int8_ptq", "fp32"))


@pytest.fixture
def study(space):
    study = Study.open(space)
    yield study
    study.close()


def test_nothing_is_found_at_first(study):
    assert FileForms(study)(MODEL, "batch") is None


def test_each_knob_of_each_model_is_kept_for_later_runs(study):
    forms = FileForms(study)
    forms.keep(MODEL, "quantized_ops", "all")
    forms.keep(OTHER, "batch", "open")
    forms.keep(MODEL, "batch", "1")
    for form_of in (forms, FileForms(study)):
        assert [form_of(MODEL, "quantized_ops"), form_of(MODEL, "batch"), form_of(OTHER, "batch")] == [
            "all",
            "1",
            "open",
        ]


def test_the_choice_of_another_run_holds(study):
    forms = FileForms(study)
    FileForms(study).keep(MODEL, "quantized_ops", "all")
    forms.keep(MODEL, "quantized_ops", "linear")
    assert forms(MODEL, "quantized_ops") == "all"
