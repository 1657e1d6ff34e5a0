"""`vitsearch check SPACE --as DEVICE` judges a space for a device that is not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import REPOSITORY
from vitsearch.cli.app import app
from vitsearch.devices import descriptions
from vitsearch.errors import SpaceError
from vitsearch.search.check import check_devices, check_space
from vitsearch.search.plan_space import plan_space

QUICKSTART = str(Path(REPOSITORY, "spaces", "quickstart.yaml"))
NANO = descriptions.find("jetson_nano")
PRECISIONS = "space.quantization=[fp32, bf16, int8_dynamic, int8_ptq]"


def checked(device, *overrides: str):
    return check_devices(check_space(QUICKSTART, overrides), [device])


def with_runtime(description, name: str, **changes):
    runtimes = tuple(
        runtime._replace(**changes) if runtime.name == name else runtime for runtime in description.info.runtimes
    )
    return replace(description, info=description.info._replace(runtimes=runtimes))


def test_every_runtime_provider_and_precision_is_judged():
    checked_devices = checked(
        NANO,
        "space.backend=[tensorrt, onnxruntime]",
        "space.provider=[cpu, gpu, cuda]",
        "space.quantization=[fp32, fp16, int8_dynamic]",
    )
    seen = {
        (judgement.deployment.runtime, judgement.deployment.provider, judgement.deployment.precision): judgement
        for judgement in checked_devices.devices[0].judged
    }
    assert {key for key, judgement in seen.items() if judgement.reason is None} == {
        *(("tensorrt", "gpu", precision) for precision in ("fp32", "fp16")),
        *(("onnxruntime", "cpu", precision) for precision in ("fp32", "fp16", "int8_dynamic")),
    }
    assert "'int8_dynamic' is not supported for tensorrt" in seen["tensorrt", "gpu", "int8_dynamic"].reason
    assert seen["onnxruntime", "cuda", "fp32"].reason == (
        "device jetson_nano: its onnxruntime (1.10.0) has no CUDAExecutionProvider; it has CPUExecutionProvider"
    )
    assert (seen["onnxruntime", "cpu", "fp32"].opset, seen["tensorrt", "gpu", "fp32"].opset) == (15, None)
    assert seen["tensorrt", "gpu", "fp16"].runs_in == "trtexec 8.2.1"


def test_only_plans_that_the_device_can_run_are_counted():
    overrides = "space.backend=[onnxruntime, openvino]", "space.provider=[cpu, npu]"
    everything = plan_space(check_space(QUICKSTART, overrides).require().space).count()
    checked_devices = checked(descriptions.find("intel_cpu"), *overrides)
    without_npu = plan_space(check_space(QUICKSTART, (*overrides[:1], "space.provider=cpu")).require().space).count()
    assert checked_devices.valid.plans == without_npu < everything


COREML = "space.backend=coreml", "space.quantization=fp32"


@pytest.mark.parametrize(
    ("device", "overrides", "line"),
    [
        (
            NANO,
            ["space.backend=[onnxruntime, openvino]"],
            "override: space.backend[1]: device jetson_nano: the runtime openvino is not usable: module not found",
        ),
        (
            with_runtime(NANO, "onnxruntime", max_opset=12),
            ["space.backend=onnxruntime"],
            "device jetson_nano: models are exported with opset 13 or newer, but its onnxruntime (1.10.0) reads at "
            "most 12",
        ),
        (
            descriptions.find("iphone"),
            [*COREML, "objectives.energy_mj=minimize"],
            "override: objectives.energy_mj: device iphone has no usable power meter, but energy_mj needs one",
        ),
        (
            descriptions.find("iphone"),
            [*COREML, "limits.power_w.max=3"],
            "limits.power_w: device iphone has no usable power meter",
        ),
        (
            descriptions.find("raspberry_pi5"),
            ["space.backend=litert", "space.provider=[gpu, nnapi]", "space.quantization=fp32"],
            "its litert (2.3.0) computes on the CPU only, not on gpu; ",
        ),
        (
            NANO,
            ["space.backend=tensorrt", "space.quantization=int8_ptq"],
            "device jetson_nano: its trtexec (8.2.1) does not compute in int8; it computes in fp32, fp16",
        ),
    ],
)
def test_what_a_run_would_refuse_is_a_problem_of_the_space(device, overrides, line):
    with pytest.raises(SpaceError) as caught:
        checked(device, *overrides)
    assert len(caught.value.problems) == 1
    assert line in caught.value.problems[0]


def test_problems_of_the_file_and_of_the_device_are_found_together():
    overrides = ["space.backend=openvino", "space.quantization=[fp32, int8_dynamic]", "task.data.source=folder"]
    with pytest.raises(SpaceError) as caught:
        checked(NANO, *overrides)
    lines = "\n".join(caught.value.problems)
    for expected in ("task.data.root is missing", "OpenVINO quantizes activations", "openvino is not usable"):
        assert expected in lines


def test_the_command_describes_what_runs_and_what_not():
    result = CliRunner().invoke(app, ["check", "--no-costs", QUICKSTART, "--as", "intel_cpu", PRECISIONS])
    assert result.exit_code == 0, result.output
    for line in (
        "on intel_cpu:",
        "  Intel(R) Xeon(R) w3-2423, 12 cores, 33024 MB, x86_64, Python 3.11.7",
        "  its processor computes in: fp32, fp16, bf16, int8 dot products, int8 matrices",
        "  onnxruntime cpu (onnxruntime 1.32.0): fp32, int8_dynamic, int8_ptq",
        "  openvino cpu (openvino 2026.4.1): fp32, bf16, int8_ptq",
        "not searched: 'int8_dynamic': OpenVINO quantizes activations at run time for large language models only",
    ):
        assert line in result.output.splitlines()
    for part, source in descriptions.find("intel_cpu").sources.items():
        assert f"intel_cpu, {part}: {source}" in result.output


def test_the_opset_is_shown_where_the_device_reads_no_newer_one():
    result = CliRunner().invoke(
        app,
        [
            "check",
            "--no-costs",
            QUICKSTART,
            "--as",
            "jetson_nano",
            "space.backend=onnxruntime",
            "space.quantization=[fp32, int8_dynamic]",
        ],
    )
    assert "  onnxruntime cpu (onnxruntime 1.10.0, ONNX opset 15): fp32, int8_dynamic" in result.output


def test_the_command_prints_json():
    result = CliRunner().invoke(
        app, ["check", "--no-costs", QUICKSTART, "--as", "jetson_nano", "--json", "space.backend=onnxruntime"]
    )
    printed = json.loads(result.stdout)
    assert printed["study"] == "quickstart"
    assert printed["devices"][0]["name"] == "jetson_nano"
    assert (printed["devices"][0]["cores"], printed["devices"][0]["memory_mb"]) == (4, 4160)
    assert printed["devices"][0]["versions"]["trtexec"] == "8.2.1"
    assert printed["devices"][0]["arithmetic"] == ["fp32"]
    assert printed["devices"][0]["deployments"][0] == {
        "runtime": "onnxruntime",
        "provider": "cpu",
        "precision": "fp32",
        "runs": True,
        "reason": None,
        "runs_in": "onnxruntime 1.10.0",
        "opset": 15,
    }


# ---- a fleet

FLEET = ("devices.nano=http://nano:8470", "devices.pi5=http://pi5:8470", "space.backend=onnxruntime")


def fleet(*overrides: str):
    """Judged for a Jetson Nano with a power meter and a Raspberry Pi without."""
    nano, pi5 = (descriptions.find_named(name) for name in ("nano=jetson_nano", "pi5=raspberry_pi5"))
    described = [
        replace(nano, info=nano.info._replace(power_meter="ina3221")),
        replace(pi5, info=pi5.info._replace(power_meter=None)),
    ]
    return check_devices(check_space(QUICKSTART, (*FLEET, *overrides)), described)


def test_the_plans_of_a_fleet_are_those_that_all_of_its_devices_can_run():
    alone = checked(NANO, "space.backend=onnxruntime").valid.plans
    checked_devices = fleet()
    assert [device.description.name for device in checked_devices.devices] == ["nano", "pi5"]
    assert 0 < checked_devices.valid.plans <= alone
    assert "on nano:" in checked_devices.describe().splitlines()


def test_a_runtime_that_one_device_lacks_is_a_problem_that_names_it():
    with pytest.raises(SpaceError) as caught:
        fleet("space.backend=[onnxruntime, tensorrt]", "space.quantization=fp32")
    (line,) = caught.value.problems
    assert "space.backend[1]: device pi5: the runtime trtexec is not usable" in line


def test_a_metric_of_one_device_is_judged_for_that_device_alone():
    assert fleet("objectives.energy_mj@nano=minimize").valid.plans > 0
    with pytest.raises(SpaceError) as caught:
        fleet("objectives.energy_mj@pi5=minimize")
    (line,) = caught.value.problems
    assert "device pi5 has no usable power meter, but energy_mj@pi5 needs one" in line


def test_the_command_takes_a_description_for_each_device():
    described = ["--as", "nano=jetson_nano", "--as", "pi5=raspberry_pi5"]
    result = CliRunner().invoke(app, ["check", "--no-costs", QUICKSTART, *described, "--json", *FLEET])
    assert result.exit_code == 0, result.output
    assert [device["name"] for device in json.loads(result.stdout)["devices"]] == ["nano", "pi5"]
