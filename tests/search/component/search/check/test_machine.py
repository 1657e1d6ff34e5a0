"""What this machine can do, and the line that installs what it lacks."""

from __future__ import annotations

import pytest

from support.terminal import shown
from vitsearch.cli.doctor import print_machine
from vitsearch.core.json_value import json_text
from vitsearch.core.targets import TARGETS
from vitsearch.search.check import machine
from vitsearch.search.check.machine import this_machine


@pytest.fixture
def without(monkeypatch):
    """A machine that lacks these packages and all programs."""

    def lack(*packages):
        real = machine.importlib.util.find_spec
        monkeypatch.setattr(
            machine.importlib.util, "find_spec", lambda name, *more: None if name in packages else real(name, *more)
        )
        monkeypatch.setattr(machine.shutil, "which", lambda name: None)
        return {group: {part.name: part for part in parts} for group, parts in this_machine().parts.items()}

    return lack


def test_every_runtime_is_judged():
    machine = this_machine()
    assert [part.name for part in machine.parts["writes files for"]] == list(TARGETS)
    assert [part.name for part in machine.parts["runs files of"]] == list(TARGETS)
    assert machine.cores >= 1
    json_text(machine)


def test_onnxruntime_is_always_there():
    by_name = {part.name: part for part in this_machine().parts["runs files of"]}
    assert by_name["onnxruntime"].works
    assert by_name["onnxruntime"].detail.startswith("onnxruntime 1.")


def test_what_is_missing_has_the_line_that_installs_it(without):
    parts = without("openvino", "nncf", "ai_edge_litert", "tflite_runtime", "psycopg")
    assert parts["writes files for"]["openvino"].install == "pip install 'vitsearch[openvino]'"
    assert parts["runs files of"]["openvino"].install == "pip install 'vitsearch-agent[openvino]'"
    litert = parts["runs files of"]["litert"]
    assert (litert.works, litert.detail) == (False, "needs ai_edge_litert or tflite_runtime or benchmark_model")
    assert parts["runs files of"]["tensorrt"].install is None
    assert parts["optional"]["psycopg"].install == "pip install 'vitsearch[postgresql]'"


def test_core_ml_is_not_offered_where_it_cannot_run(without, monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "linux")
    part = without("coremltools")["runs files of"]["coreml"]
    assert (part.works, part.install) == (False, None)


def test_the_pages_of_a_study_are_listed(without):
    parts = without("uvicorn", "optuna_dashboard")["optional"]
    assert parts["uvicorn"].install == "pip install 'vitsearch[serve]'"
    assert parts["optuna_dashboard"].install == "pip install optuna-dashboard"


def test_several_reasons_give_several_commands(without):
    part = without("ai_edge_litert")["writes files for"]["litert"]
    if "converter" in part.detail:  # it is not installed on this machine either
        assert part.install == "pip install 'vitsearch[litert]' && vitsearch install-converter litert"
    assert "run: " not in part.detail


def test_commands_stay_on_one_line_in_a_narrow_terminal(without):
    without("ai_edge_litert", "tflite_runtime")
    text = shown(print_machine, this_machine(), width=40)
    assert any(line.strip() == "to install: pip install 'vitsearch-agent[litert]'" for line in text.splitlines())
