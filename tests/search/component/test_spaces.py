"""Every space file that ships: it loads, its backbones support what it asks for, its plans can be drawn, and the device
that it is for can run them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support import REPOSITORY
from vitsearch import backbones
from vitsearch.core import precisions
from vitsearch.devices import descriptions
from vitsearch.search.check import check_devices, check_space
from vitsearch.space import check, load
from vitsearch.study.sampling import PlanSpace

SPACES = sorted(Path(REPOSITORY, "spaces").glob("*.yaml"))


@pytest.fixture(params=SPACES, ids=lambda path: path.stem)
def loaded(request):
    return load(request.param, [])


def test_nothing_is_wrong_with_it(loaded):
    assert check(loaded, backbones.supports) == []
    assert loaded.space.study == Path(loaded.source.path).stem
    assert Path(loaded.source.path).read_text().startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.long
def test_every_backbone_is_on_the_leaderboard_at_every_precision_that_it_takes(loaded):
    plans = PlanSpace(loaded.space, loaded.space.device_names[0], backbones.supports, backbones.native_resolution)
    leaders = {(plan.backbone, plan.deployment.precision) for plan in plans.leaderboard()}
    assert leaders == {
        (choice.name, precision)
        for choice in loaded.space.space.backbone
        for precision in loaded.space.space.quantization
        if backbones.supports(choice.name, "quantization", precision) is None
        and any(precisions.supports(runtime, precision) is None for runtime in loaded.space.space.backend)
    }
    assert plans.baseline().deployment.precision == "fp32"


def test_what_is_drawn_is_supported(loaded):
    plans = PlanSpace(loaded.space, loaded.space.device_names[0], backbones.supports, backbones.native_resolution)
    chance = random.Random(0)
    for plan in (plans.random(chance) for _ in range(50)):
        assert backbones.supports(plan.backbone, "resolution", plan.resolution) is None
        assert backbones.supports(plan.backbone, "head_pruning_ratio", plan.compression.head_pruning_ratio) is None
        assert precisions.supports(plan.deployment.runtime, plan.deployment.precision) is None
        assert plans.contains(plan)


FOR_DEVICES = {"android", "intel_cpu", "iphone", "jetson_nano", "jetson_orin_nano", "raspberry_pi5"}
NOT_SEARCHED = {
    "jetson_nano": {("tensorrt", "int8_dynamic")},
    "intel_cpu": {("onnxruntime", "bf16"), ("openvino", "int8_dynamic")},
    "raspberry_pi5": {("executorch", "int8_dynamic")},
}
"""Space -> what cannot run on the device that it is for, by runtime and precision; everything else must."""


@pytest.mark.parametrize("name", sorted(FOR_DEVICES))
def test_the_device_of_a_space_runs_what_the_space_asks_for(name):
    data = "task.data={source: builtin:fashion-mnist-14k}"  # what the file names is the user's
    checked = check_space(Path(REPOSITORY, "spaces", f"{name}.yaml"), [data])
    found = check_devices(checked, [descriptions.find(name)])
    assert found.valid.plans > 100
    missing = {
        (one.deployment.runtime, one.deployment.precision) for one in found.devices[0].judged if one.reason is not None
    }
    assert missing == NOT_SEARCHED.get(name, set())
    asked = found.valid.space.space
    runs = [one.deployment for one in found.devices[0].judged if one.reason is None]
    assert {one.runtime for one in runs} == set(asked.backend)
    assert {one.precision for one in runs} == set(asked.quantization)
    assert set(asked.provider) <= {one.provider for one in runs}


@pytest.mark.parametrize("name", sorted(FOR_DEVICES))
def test_the_header_of_a_space_for_a_device_names_its_commands(name):
    text = Path(REPOSITORY, "spaces", f"{name}.yaml").read_text()
    for command in (f"check spaces/{name}.yaml --as {name}", f"vitsearch run   spaces/{name}.yaml"):
        assert command in text or command.replace("   ", " ") in text
