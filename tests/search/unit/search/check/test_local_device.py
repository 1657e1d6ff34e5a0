"""What this machine lacks as the device of a space."""

from __future__ import annotations

import pytest

from vitsearch.core.plan import Deployment
from vitsearch.devices.survey import DevicePart
from vitsearch.search.check import local_device
from vitsearch.space import SearchSpace


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """Two cores of x86-64, and every runtime but TensorRT's."""
    monkeypatch.setattr(local_device, "_cores", lambda space: {"local": 2})
    monkeypatch.setattr(local_device.platform, "machine", lambda: "x86_64")
    missing = DevicePart("tensorrt", False, "needs trtexec")
    parts = {"tensorrt": missing}
    monkeypatch.setattr(local_device, "runtime_here", lambda name: parts.get(name, DevicePart(name, True, "1.0")))


def space_of(devices=None, **knobs):
    return SearchSpace.from_json(
        {
            "study": "small",
            "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
            "objectives": {"accuracy": "maximize", "throughput_ips": "maximize"},
            "space": {"backbone": ["vit_fmnist_p4"], "resolution": [28], **knobs},
        }
        | ({} if devices is None else {"devices": devices})
    )


@pytest.mark.parametrize(
    ("knobs", "reasons"),
    [
        ({"backend": ["onnxruntime"], "streams": [1, 8]}, []),
        ({"backend": ["onnxruntime", "tensorrt"]}, ["device local cannot run files for tensorrt: needs trtexec"]),
        ({"streams": [4, 8]}, ["device local has 2 cores for measurements, so no 4 streams; "]),
        (
            {"backend": ["onnxruntime"], "provider": ["qnn"], "quantization": ["int8_ptq"], "batch": [1]},
            ["device local: on its processor (x86_64) onnxruntime-qnn imitates the NPU"],
        ),
    ],
)
def test_a_space_that_this_machine_cannot_measure_has_its_reasons(knobs, reasons):
    unable = local_device.unable(space_of(**knobs))
    assert len(unable) == len(reasons)
    assert all(line.startswith(reason) for line, reason in zip(unable, reasons, strict=True))


def test_a_space_with_devices_is_not_judged_by_this_machine():
    board = {"nano": {"url": "http://10.0.0.5:8470", "token": "env:VITSEARCH_TOKEN"}}
    space = space_of(board, backend=["tensorrt"], streams=[8])
    assert local_device.unable(space) == local_device.without_cores(space) == []
    assert local_device.with_cores(space) is None


def test_streams_without_cores_are_named_and_left_out():
    space = space_of(streams=[1, 4])
    assert local_device.without_cores(space) == [
        "not searched: device local has 2 cores for measurements, so no 4 streams"
    ]
    runs_on_cores = local_device.with_cores(space)
    assert [
        streams
        for streams in (1, 2, 4)
        if runs_on_cores(Deployment("local", "onnxruntime", "cpu", "fp32", 1, streams=streams)) is None
    ] == [1, 2]
