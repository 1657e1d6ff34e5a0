"""The Python API: spaces are checked when they are loaded, stored studies are read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vitsearch as vs
from support import SPACE_FILES

SMALL = Path(SPACE_FILES, "small.yaml")


def test_load_space_applies_overrides():
    assert vs.load_space(SMALL, "search.trials=3").search.trials == 3


def test_load_space_refuses_what_no_runtime_supports():
    with pytest.raises(vs.errors.SpaceError, match="bf16"):
        vs.load_space(SMALL, "space.quantization=[fp32, bf16]")


def test_load_space_warns_of_values_that_an_override_made_unusable(tmp_path):
    path = tmp_path / "tokens.yaml"
    path.write_text(
        SMALL.read_text().replace("resolution: [24, 28]", "resolution: [24, 28]\n  token_pruning_ratio: 0.3")
    )
    with pytest.warns(UserWarning, match=r"token_pruning_ratio: no backbone of the file supports 0\.3.*it is left out"):
        vs.load_space(path, "space.backbone=efficientvit_fmnist")


def test_a_stored_study_has_a_front_and_a_status(finished):
    study = vs.open_study(f"{finished.space.storage}#{finished.space.study}")
    front = study.front()
    assert front.points
    for point in front.points:
        low, high = point.metrics.intervals["accuracy"]
        assert low <= point.metrics.value("accuracy") <= high
    assert study.status().trained == finished.space.search.trials


def test_a_study_is_found_by_its_database_file(finished):
    assert vs.open_study(finished.folder / "fake.db").front().study == "fake"


def test_a_study_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(vs.errors.StudyError, match="does not exist"):
        vs.open_study(tmp_path / "nothing.db")


def test_all_models_are_a_data_frame(finished):
    frame = vs.open_study(finished.folder / "fake.db").to_frame()
    models = vs.open_study(finished.folder / "fake.db").models()
    assert frame.index.name == "trial"
    assert set(frame.index) == {point.trial for point in (*models.points, *models.others)}
    knee = models.points[models.knee]
    assert frame.loc[knee.trial, "cpu_ms_p50"] == knee.metrics.value("cpu_ms_p50")
    assert frame.loc[knee.trial, "on_front"]


def test_without_pandas_a_data_frame_is_refused_with_the_line_that_installs_it(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(vs.errors.ResourceError) as caught:
        vs.open_study(finished.folder / "fake.db").to_frame()
    assert str(caught.value) == "a data frame needs pandas; run: pip install 'vitsearch[pandas]'"
