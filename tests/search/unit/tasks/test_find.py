"""Tasks by their names, and what is no task."""

from __future__ import annotations

import sys
from itertools import count

import pytest

from vitsearch.core.metrics import METRICS
from vitsearch.errors import TaskError, UnknownName
from vitsearch.tasks import CLASSIFICATION, TASKS, TaskSource

NUMBERS = count()
TASK = """
from vitsearch.core.metrics import quality
from vitsearch.tasks import Divergence, Task

class Depth(Task):
    kind = "depth"
    labels = "unused"
    metrics = (quality("depth_error", worst=10.0, best=0.0, unit="m"),)
    divergence = Divergence("m", 0.01, 1.0)

    def distance(self, outputs, reference, temperature): ...
    def diverge(self, outputs, reference): ...
    def judge(self, outputs, truth): ...
    def loss(self, outputs, targets): ...
"""

FOCAL = """
from vitsearch.tasks.classification.task import CLASSIFICATION, Classification

class Focal(Classification):
    labels = "needed"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module of this text, each under a name of its own; returns where its attribute is."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write_(text, attribute):
        name = f"task_of_a_test_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return TaskSource(f"{name}:{attribute}", str(tmp_path))

    yield write_
    METRICS.pop("depth_error", None)


def test_classification_is_the_task_of_a_file_that_names_none():
    assert TaskSource().find() is CLASSIFICATION


def test_a_task_that_nobody_has_registered_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'classification'"):
        TaskSource("clasification").find()


def test_a_task_of_a_users_module_makes_its_metrics_known(write):
    source = write(TASK, "Depth")
    assert source.is_own_code
    assert source.find().kind == "depth"
    assert METRICS["depth_error"].direction == "minimize"
    assert source.digest != TaskSource().digest


def test_a_task_of_another_package_is_own_code(write, tmp_path, monkeypatch):
    module = write(TASK, "Depth").kind
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS._targets, "depth_of_a_package", module)
    packaged = TaskSource("depth_of_a_package")
    assert packaged.find().kind == "depth"
    assert packaged.is_own_code
    assert not TaskSource("segmentation").is_own_code


@pytest.mark.parametrize(
    ("text", "attribute", "said"),
    [
        (
            "raise ValueError('x')",
            "T",
            r"cannot be imported: ValueError: x \(task_of_a_test_.* line 1\)",
        ),
        (
            "import no_such_module_here",
            "T",
            "cannot be imported on .*: it needs 'no_such_module_here'",
        ),
        ("", "T", "has no 'T'; it has no class that derives from Task"),
        (TASK, "Deep", "has no 'Deep'; its tasks: Depth$"),
        ("T = 3", "T", "has no kind, .*, judge; what a task has: docs/add_a_task.md"),
        (TASK.replace("def judge", "def weigh").replace("(Task)", ""), "Depth", "has no .*judge"),
        (TASK + "\n    metrics = ()\n", "Depth", "has no metric"),
        (TASK.replace("depth_error", "accuracy"), "Depth", "metric accuracy: another metric has this name"),
        (FOCAL, "Focal", "'classification' is the kind of a task of vitsearch; give this one another"),
        (FOCAL, "Classification", "'classification' is the kind of a task of vitsearch; give this one another"),
        (
            FOCAL,
            "CLASSIFICATION",
            "'classification' is the kind of a task of vitsearch; .* or write 'kind: classification' for that task",
        ),
        (FOCAL + "    kind = 'segmentation'", "Focal", "'segmentation' is the kind of a task of vitsearch"),
    ],
)
def test_what_is_no_task_is_refused_and_named(write, text, attribute, said):
    with pytest.raises(TaskError, match=said):
        write(text, attribute).find()


def test_a_module_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(TaskError, match="no module 'no_such_module_here' on .*: neither installed there nor in"):
        TaskSource("no_such_module_here:T", str(tmp_path)).find()


def test_a_module_that_an_installed_one_hides_is_named(tmp_path):
    """A task in a file `json.py` was answered with what Python's own module does not have."""
    (tmp_path / "json.py").write_text(TASK)
    with pytest.raises(TaskError, match="json.* is imported instead of the module 'json' in "):
        TaskSource("json:Depth", str(tmp_path)).find()
