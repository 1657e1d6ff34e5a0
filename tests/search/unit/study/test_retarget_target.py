"""Where the models of a study are to run: names, deployments, and the space that holds there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.plan import Deployment
from vitsearch.space import SearchSpace
from vitsearch.space.sections import DeviceSection
from vitsearch.study.retargeted import Target

OWN = Deployment("local", "onnxruntime", "cpu", "fp32", None, options=(("graph_optimization", "basic"),))
FINGERPRINT = "sha256:" + "ab" * 32


@pytest.fixture
def remote(space) -> SearchSpace:
    return SearchSpace.from_json(space.to_json() | {"devices": {"nano": {"url": "https://nano:8470"}}})


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target("nano"), "nano"),
        (Target("local", threads=2), "local+threads2"),
        (Target("local", "openvino", "gpu", "fp16", 4), "local+openvino+gpu+fp16+threads4"),
    ],
)
def test_a_target_is_named_by_what_changes(target, name):
    assert target.name == name


def test_another_device_runs_the_file_as_it_is():
    assert Target("nano").deployment(OWN) == replace(OWN, device="nano")


def test_another_runtime_has_its_own_provider_and_no_options_of_the_first():
    moved = Target("local", "openvino").deployment(OWN)
    assert moved == Deployment("local", "openvino", "cpu", "fp32", None)


def test_a_runtime_that_takes_no_open_batch_gets_files_of_one_image():
    assert Target("phone", "litert").deployment(OWN).batch == 1


def test_provider_and_precision_are_replaced_where_they_are_named():
    moved = Target("local", provider="xnnpack", quantization="int8_dynamic").deployment(OWN)
    assert (moved.runtime, moved.provider, moved.precision) == ("onnxruntime", "xnnpack", "int8_dynamic")


def test_the_space_has_the_device_and_the_threads(space):
    moved = Target("nano", threads=4).space(space)
    assert (moved.device_names, moved.measure.threads) == (("nano",), 4)
    assert Target("local").space(moved).devices == {}


def test_a_device_is_described_by_the_newest_file(remote):
    newer = {"nano": DeviceSection(url="https://nano:9000", fingerprint=FINGERPRINT)}
    assert Target("nano").space(remote).devices["nano"].url == "https://nano:8470"
    assert Target("nano").space(remote, newer).devices == newer
    assert Target("orin").space(remote).devices == {"orin": DeviceSection()}


@pytest.mark.parametrize("target", [Target("nano"), Target("local", threads=2)])
def test_latency_takes_the_place_of_the_cpu_time_of_a_shared_machine(space, target):
    limited = SearchSpace.from_json(space.to_json() | {"limits": {"cpu_ms_p50": {"max_ratio": 0.5}}})
    moved = target.space(limited)
    assert dict(moved.objectives) == {"accuracy": "maximize", "latency_ms_p50": "minimize"}
    assert moved.limits["latency_ms_p50"].max_ratio == 0.5
    assert target.counts_latency(limited)


@pytest.mark.parametrize("target", [Target("local", "openvino"), Target("local", threads=1)])
def test_cpu_time_stays_where_one_thread_of_the_same_machine_is_measured(space, target):
    assert dict(target.space(space).objectives) == dict(space.objectives)


def test_cpu_time_stays_where_a_study_of_a_device_has_asked_for_it(remote):
    assert "cpu_ms_p50" in Target("orin").space(remote).objectives


def test_a_model_keeps_its_batch_and_its_threads():
    own = replace(OWN, batch=8, threads=2)
    assert Target("nano").deployment(own) == replace(own, device="nano")
    assert Target("nano", threads=4).deployment(own).threads == 4
    assert Target("nano", "litert").deployment(own).batch == 8
