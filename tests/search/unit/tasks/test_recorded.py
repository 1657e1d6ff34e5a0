"""What a study keeps of a task of one's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.metrics import METRICS, quality
from vitsearch.errors import TaskError
from vitsearch.tasks import Divergence
from vitsearch.tasks.recorded import RecordedTask, TaskFacts

NUMBERS = st.floats(-100, 100, allow_nan=False)


def facts(**changes):
    values = {
        "kind": "mine",
        "labels": "needed",
        "has_reference": False,
        "output": "outputs",
        "gives_map": False,
        "reduction": "none",
        "divergence": Divergence("nats", 0.005, 0.2),
        "metrics": (quality("recorded_cost", worst=0.5, best=0.0, unit="EUR"),),
    }
    return TaskFacts(**values | changes)


@pytest.fixture(autouse=True)
def no_new_metric():
    known = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(known)


@given(worst=NUMBERS, best=NUMBERS)
def test_facts_come_back_from_json_equal(worst, best):
    if worst == best:
        return
    METRICS.pop("recorded_cost", None)
    before = facts(metrics=(quality("recorded_cost", worst=worst, best=best, unit="EUR"),))
    assert TaskFacts.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_the_metrics_are_known_once_the_facts_are_read():
    TaskFacts.from_json(facts().to_json())
    assert METRICS["recorded_cost"].direction == "minimize"


def test_a_metric_that_another_task_has_is_refused():
    with pytest.raises(TaskError, match="metric accuracy: another metric has this name"):
        TaskFacts.from_json(facts(metrics=(quality("accuracy", worst=0.2),)).to_json())


def test_a_task_without_its_code_judges_nothing():
    task = RecordedTask(facts())
    assert (task.kind, [metric.name for metric in task.metrics]) == ("mine", ["recorded_cost"])
    with pytest.raises(TaskError, match="task mine: its code is not imported to read a study"):
        task.judge(None, None)


def test_reading_the_room_imports_neither_torch_nor_numpy():
    code = "import sys, vitsearch.tasks, vitsearch.tasks.recorded; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
