"""task.data.labels none: what a space file may say with images that have no labels."""

from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.space import load
from vitsearch.space.load import read_draft

SMALL = Path(SPACE_FILES, "small.yaml")
UNLABELLED = "task.data={source: folder, root: photos, labels: none}"
THEIRS = "{onnx: a.onnx, name: theirs, mean: 0.5, std: 0.5, resolution: 28}"
OTHERS = THEIRS.replace("theirs", "others")
ONE_FILE = f"space.backbone=[{THEIRS}]"
NEEDS_ONE = "the only backbone must be one ONNX file; here: "


def problems(*overrides):
    return [line.removeprefix("override: ") for line in read_draft(SMALL, [UNLABELLED, *overrides]).lines()]


def test_one_file_labels_the_images():
    space = load(SMALL, [UNLABELLED, ONE_FILE]).space
    assert space.labelled_by is not None
    assert space.labelled_by.name == "theirs"
    assert load(SMALL, [ONE_FILE]).space.labelled_by is None


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ([f"space.backbone=[{THEIRS}, {OTHERS}]"], f"task.data.labels: {NEEDS_ONE}theirs, others"),
        ([f"space.backbone=[{THEIRS}, levit_128s]"], f"task.data.labels: {NEEDS_ONE}theirs, levit_128s"),
        (["space.backbone=[levit_128s]"], f"task.data.labels: {NEEDS_ONE}levit_128s"),
        (["space.backbone=[{python: 'a:b', name: ours, resolution: 28}]"], f"task.data.labels: {NEEDS_ONE}ours"),
        ([ONE_FILE, "baseline.backbone=vit_fmnist_p4"], f"task.data.labels: {NEEDS_ONE}theirs, vit_fmnist_p4"),
        ([ONE_FILE, "task.teacher={backbone: levit_128s}"], "task.teacher: has no effect with data.labels none"),
        ([ONE_FILE, "task.base.class_weights=balanced"], "task.base.class_weights: has no effect"),
        ([ONE_FILE, "task.fine_tune.class_weights={a: 2}"], "task.fine_tune.class_weights: has no effect"),
        ([ONE_FILE, "task.data.labels=perhaps"], "task.data.labels: 'perhaps'"),
        ([ONE_FILE, "task.data.source=tar"], "task.data.labels: has no effect with source 'tar'"),
    ],
)
def test_what_needs_labels_is_one_problem(overrides, problem):
    where, _, text = problem.partition(": ")
    (line,) = problems(*overrides)
    assert line.startswith(where)
    assert text in line
