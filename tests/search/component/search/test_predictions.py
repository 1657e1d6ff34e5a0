"""The answers of stored files, and why there may be none."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

import vitsearch as vs
from vitsearch.core.metrics import METRICS
from vitsearch.data import DataSpec, load
from vitsearch.errors import DataError, StoreError, StudyError
from vitsearch.search.predictions import StoredPredictions, paired_values
from vitsearch.search.stage_config import data_spec
from vitsearch.testing.fakes import DATA


@pytest.mark.long
def test_other_data_than_that_of_the_study_is_refused(finished):
    """The fake study was made with fake data, but its space file names the built-in set."""
    stored = vs.open_study(finished.folder / "fake.db")
    with pytest.raises(DataError, match=r"study 'fake' was made with other data\. What differs: "):
        stored.compare(None, 0, paired=True)


def test_the_classes_of_a_model_are_known_without_its_data_and_its_file(finished):
    """The fake study has neither images nor a file that could run."""
    stored = vs.open_study(finished.folder / "fake.db")
    classes = stored.class_accuracies(None)
    assert [row.name for row in classes] == DATA["class_names"]
    assert sum(row.correct for row in classes) / 1000 == stored.front().baseline.metrics.value("accuracy")


def test_the_classes_of_a_trial_that_was_not_evaluated_are_not_known(finished):
    records = finished.records().items()
    number, record = next(pair for pair in records if pair[1].outcome not in ("confirmed", "duplicate"))
    with pytest.raises(StudyError, match=f"trial {number} has no exported model: its outcome is {record.outcome}"):
        vs.open_study(finished.folder / "fake.db").class_accuracies(number)


def test_images_without_a_value_are_in_no_pair(pixel_error):
    values, others = np.array([1.0, math.nan, 3.0, 4.0]), np.array([2.0, 1.0, 5.0, math.nan])
    paired = paired_values(METRICS[pixel_error], values, others)
    assert (paired.n, paired.change) == (2, 1.5)
    with pytest.raises(StudyError, match=f"no single image has {pixel_error}"):
        paired_values(METRICS[pixel_error], values, np.full(4, math.nan))


@pytest.fixture
def of_real_data(finished, tmp_path):
    """The finished study as if it had been made with the data that its space file names."""
    shutil.copy(finished.folder / "fake.db", tmp_path / "fake.db")
    copy = finished.with_space(storage=f"sqlite:///{tmp_path / 'fake.db'}")
    with copy.opened() as (study, _):
        study.remember("data", load(DataSpec.from_json(data_spec(study.space()))).to_json())
    return copy


def test_a_trial_without_a_file_has_no_answers(of_real_data):
    number = next(n for n, record in of_real_data.records().items() if record.outcome not in ("confirmed", "duplicate"))
    with of_real_data.opened() as (study, ledger), pytest.raises(StudyError) as caught:
        StoredPredictions(study, ledger, of_real_data.space.storage).paired(number, None)
    outcome = of_real_data.records()[number].outcome
    assert str(caught.value) == f"trial {number} has no exported model: its outcome is {outcome}"


def test_a_file_that_is_gone_has_no_answers(of_real_data):
    number = next(n for n, record in of_real_data.records().items() if record.is_confirmed)
    gone = f"trial {number}: its file .* is not in"
    with of_real_data.opened() as (study, ledger), pytest.raises(StoreError, match=gone):
        StoredPredictions(study, ledger, of_real_data.space.storage).paired(number, None)
