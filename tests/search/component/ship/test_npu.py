"""Bundles with files that are compiled for chips; skipped where the compiler is not installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitsearch.core.plan import Deployment
from vitsearch.errors import ResourceError, StudyError
from vitsearch.export import converters
from vitsearch.pipeline.progress import PlainLines
from vitsearch.ship import examples, npu
from vitsearch.ship.card import card
from vitsearch.ship.contents import contents
from vitsearch.ship.shipped_context import Agreement, ShippedContext, agreement
from vitsearch.targets.onnxruntime.qnn import contexts as compiler
from vitsearch.targets.onnxruntime.qnn.chips import CHIPS
from vitsearch.targets.onnxruntime.qnn.contexts import Context

CPU = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.1], [5.0, 0.0]], np.float32)


def shipped(cpu_operators=None, count=1, other_class=0):
    context = Context(CHIPS["sm8650"], Path("sm8650.onnx"), count, 9, cpu_operators or {}, "onnxruntime 1.32.0")
    return ShippedContext(context, Agreement(20, 0.25, 9.5, 20 - other_class, 0, other_class))


def test_equal_classes_are_counted_and_ties_told_from_others():
    near = CPU + np.array([[0, 0], [0, 0], [0.2, 0], [0, 0]], np.float32)
    seen = agreement(CPU, near, True)
    assert (seen.images, seen.same_class, seen.ties, seen.other_class) == (4, 3, 1, 0)
    assert (seen.largest_difference, seen.largest_logit) == pytest.approx((0.2, 5.0))


def test_another_class_where_the_largest_logits_are_apart_is_no_tie():
    swapped = CPU + np.array([[0, 0], [-1.5, 0.4], [0.2, 0], [0, 0]], np.float32)
    swapped[1] = [2.0, 1.9]
    seen = agreement(CPU, swapped, True)
    assert (seen.same_class, seen.ties, seen.other_class) == (2, 1, 1)


def test_a_task_without_classes_has_the_difference_alone():
    seen = agreement(CPU, CPU + np.float32(0.5), False)
    assert (seen.same_class, seen.ties, seen.other_class) == (None, None, None)
    assert seen.largest_difference == pytest.approx(0.5)


def test_what_is_left_to_the_cpu_is_a_warning():
    assert shipped().warnings == []
    lines = shipped({"LayerNormalization": 13, "Gather": 1}, 14, 2).warnings
    assert [line.partition(": ")[2] for line in lines] == [
        "14 operators are left to the CPU (LayerNormalization 13, Gather 1), which is slow",
        "the model is cut into 14 contexts, which is slow",
        "the emulated NPU gives another class than the CPU for 2 of 20 images, and not for a tie",
    ]


def test_only_a_file_for_the_npu_is_compiled():
    npu.require_npu("trial 3", Deployment("board", "onnxruntime", "qnn", "w8a16", 1))
    with pytest.raises(StudyError, match="trial 3 is a file for onnxruntime on cpu; --chip needs a model that was"):
        npu.require_npu("trial 3", Deployment("board", "onnxruntime", "cpu", "int8_ptq", 1))


def test_without_the_compiler_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path))
    assert npu.chips_of([]) == ()
    with pytest.raises(ResourceError, match="--chip: the qnn converter is not installed; run: vitsearch install-conv"):
        npu.chips_of(["sm8650"])


def test_the_example_registers_the_provider_as_the_agent_does(make_task):
    model = make_task(False, 40, 32, precision="w8a16", provider="qnn").model
    text = examples.python_example(model)
    assert text is not None
    compile(text, "example.py", "exec")
    assert "import onnxruntime_qnn" in text
    assert "OPTIONS.add_provider_for_devices(NPUS[:1], {'backend_type': 'htp'})" in text
    assert "providers=[" not in text
    assert "onnxruntime-qnn" in examples.packages(model)


@pytest.mark.long
def test_a_bundle_holds_a_file_for_each_chip_and_says_what_was_seen(make_task, tmp_path, capsys):
    if reason := converters.converter_missing(compiler.NAME):
        pytest.skip(reason)
    model = make_task(False, 40, 32, precision="w8a16", provider="qnn").model
    chips = npu.chips_of(["sm8650", "sm8350", "sm8650"])
    made = npu.shipped_contexts(model, chips, tmp_path, PlainLines(()))
    assert [each.context.is_whole for each in made] == [True, True]
    files = contents(replace(model, contexts=made), True)
    assert {"contexts/sm8650.onnx", "contexts/sm8350.onnx"} <= set(files)
    listed = json.loads(files["contexts.json"])
    assert [each["chip"] for each in listed] == ["sm8650", "sm8350"]
    assert [each["emulated"]["images"] for each in listed] == [20, 20]
    assert [each["emulated"]["other_class"] for each in listed] == [0, 0]
    text = card(replace(model, contexts=made), True)
    assert "`contexts/sm8650.onnx` for Snapdragon 8 Gen 3: 1 context, no operators on the CPU" in text
    assert "## For the NPUs of Qualcomm" not in card(model, True)
