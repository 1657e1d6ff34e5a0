"""What a device can run, by what its agent reports."""

from __future__ import annotations

import pytest

from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT
from vitsearch.core.plan import Deployment
from vitsearch.devices.deployable import (
    all_without_cores,
    cores_by_name,
    deployable,
    deployable_on,
    on_device,
    opset_for,
    opset_on,
    refuse_old_opsets,
    refuse_unable,
    refuse_unable_on,
    too_few_cores,
    version_on,
)
from vitsearch.devices.protocols import cores_of
from vitsearch.errors import ResourceError
from vitsearch.models.onnx_format import OLDEST_OPSET, OPSET
from vitsearch.space import SearchSpace
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import DeviceInfo, RuntimeInfo

ORT = RuntimeInfo(
    "onnxruntime", True, None, "1.10.0", ("CPUExecutionProvider",), max_opset=15, max_ir_version=8, precisions=("fp32",)
)
TRTEXEC = RuntimeInfo("trtexec", True, None, "8.2.1", ("Nano",), precisions=("fp32", "fp16", "int8"))
OPENVINO = RuntimeInfo("openvino", True, None, "2026.4.1", ("CPU",), ("onnx", "openvino"), precisions=("fp32", "int8"))
TFLITE_TOOL = RuntimeInfo("benchmark_model", True, None, "sha256:00", (), ("tflite",), precisions=("fp32", "int8"))


def space_of(measured_threads=1, **knobs) -> SearchSpace:
    return SearchSpace.from_json(
        {
            "study": "small",
            "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
            "objectives": {"accuracy": "maximize", "throughput_ips": "maximize"},
            "space": {"backbone": ["vit_fmnist_p4"], "resolution": [28], **knobs},
            "measure": {"threads": measured_threads},
        }
    )


def device(*runtimes: RuntimeInfo) -> DeviceInfo:
    return DeviceInfo(3, 3, "0", "d", "physical", "0" * 64, {}, runtimes, ("measure",), 1, 0, 0)


def on(runtime: str, provider: str = "cpu", precision: str = "fp32") -> Deployment:
    return Deployment("nano", runtime, provider, precision, 1)


@pytest.mark.parametrize(
    ("runtimes", "message"),
    [
        (
            (ORT._replace(max_opset=12),),
            r"device nano: models are exported with opset 13 or newer, but its onnxruntime \(1.10.0\) reads at most 12",
        ),
        ((ORT._replace(available=False, reason="no numpy"),), "the runtime onnxruntime is not usable: no numpy"),
        (
            (ORT._replace(name="noop"),),
            "available: noop .to install it there: pip install onnxruntime.",
        ),
        ((), "available: none"),
    ],
)
def test_a_device_that_cannot_run_the_study_is_refused(runtimes, message):
    with pytest.raises(ResourceError, match=message):
        refuse_unable("nano", device(*runtimes), [on("onnxruntime")])


def test_the_package_of_an_npu_is_named():
    with pytest.raises(ResourceError, match="no QNNExecutionProvider.*: pip install onnxruntime-qnn"):
        refuse_unable("nano", device(ORT), [on("onnxruntime", "qnn", "int8_ptq")])


@pytest.mark.parametrize(
    ("newest", "opset"), [(OLDEST_OPSET, OLDEST_OPSET), (15, 15), (OPSET, OPSET), (18, OPSET), (None, OPSET)]
)
def test_files_have_the_newest_opset_that_we_write_and_the_device_reads(newest, opset):
    info = device(ORT._replace(max_opset=newest))
    refuse_unable("nano", info, [on("onnxruntime")])
    assert opset_for(info, on("onnxruntime")) == opset


def test_a_device_that_reads_no_opset_of_an_architecture_is_refused():
    old, new = named("nano", ORT, OPENVINO), named("pc", ORT._replace(max_opset=23))
    there = r"the device's onnxruntime \(1.10.0\) reads at most 15"
    message = f"^device nano: volo_d1_224 is exported with opset 18 or newer, because it folds .*; {there}$"
    with pytest.raises(ResourceError, match=message):
        refuse_old_opsets([new, old], "volo_d1_224", DYNAMO, [on("openvino"), on("onnxruntime")])
    refuse_old_opsets([new], "volo_d1_224", DYNAMO, [on("onnxruntime")])
    refuse_old_opsets([old], "volo_d1_224", DYNAMO, [on("openvino")])
    refuse_old_opsets([old], "vit_tiny_patch16_224", TORCHSCRIPT, [on("onnxruntime")])
    assert opset_on([new], on("onnxruntime"), DYNAMO) == DYNAMO.opset


def test_the_opset_of_one_runtime_does_not_limit_another():
    info = device(ORT._replace(max_opset=12), TRTEXEC)
    assert opset_for(info, on("tensorrt", "gpu")) == OPSET
    refuse_unable("nano", info, [on("tensorrt", "gpu")])
    assert opset_for(info, on("litert")) == OPSET  # it has none


def test_one_precision_that_runs_is_enough():
    choices = [on("openvino", precision=precision) for precision in ("bf16", "fp32")]
    refuse_unable("pc", device(OPENVINO), choices)
    with pytest.raises(ResourceError, match="does not compute in bf16; it computes in fp32, int8"):
        refuse_unable("pc", device(OPENVINO), choices[:1])


def test_a_provider_that_the_device_lacks_is_named_with_those_that_it_has():
    why = deployable("pc", device(OPENVINO))(on("openvino", "npu"))
    assert why == "device pc: its openvino (2026.4.1) has no NPU; it has CPU"


def test_an_npu_that_is_only_imitated_is_refused_on_a_physical_device():
    runtime = ORT._replace(providers=("CPUExecutionProvider", "QNNExecutionProvider"))
    npu, there = on("onnxruntime", "qnn", "w8a16"), device(runtime)
    x86 = there._replace(fingerprint={"machine": "x86_64"})
    assert deployable("local", x86)(npu) == (
        "device local: on its processor (x86_64) onnxruntime-qnn imitates the NPU, so the times would be those of no "
        "device; a device that is declared emulated may run it"
    )
    assert deployable("local", x86)(on("onnxruntime")) is None
    assert deployable("emulated", x86._replace(kind="emulated"))(npu) is None
    assert deployable("board", there._replace(fingerprint={"machine": "aarch64"}))(npu) is None


def test_files_of_litert_run_in_its_tool_where_there_is_no_interpreter():
    phone = device(TFLITE_TOOL)
    assert deployable("phone", phone)(on("litert")) is None
    assert on_device(phone, on("litert")) == TFLITE_TOOL
    assert on_device(phone, on("onnxruntime")) is None


# ---- several devices


def named(name, *runtimes):
    return FakeDevice(name, info=device(*runtimes))


def test_all_devices_of_a_fleet_have_to_run_a_deployment():
    check = deployable_on([named("pc", OPENVINO, ORT), named("pi5", ORT)])
    assert check(on("onnxruntime")) is None
    assert check(on("openvino")) == "device pi5 has no runtime openvino; available: onnxruntime"


def test_the_device_that_lacks_a_runtime_is_named():
    devices = [named("pc", OPENVINO, ORT), named("pi5", ORT)]
    refuse_unable_on(devices, [on("onnxruntime")])
    with pytest.raises(ResourceError, match="device pi5 has no runtime openvino"):
        refuse_unable_on(devices, [on("onnxruntime"), on("openvino")])


def test_devices_that_run_nothing_in_common_are_refused_with_each_reason():
    gpu = ORT._replace(providers=("CUDAExecutionProvider",))
    devices = [named("nano", gpu), named("pi5", ORT)]
    message = "no onnxruntime model of the file runs on all of nano, pi5: device nano: .* it has CUDA.*; device pi5: "
    with pytest.raises(ResourceError, match=message):
        refuse_unable_on(devices, [on("onnxruntime", "cpu"), on("onnxruntime", "cuda")])


def test_the_one_file_is_for_the_oldest_runtime():
    old, new = (ORT._replace(version=version, max_opset=opset) for version, opset in (("1.9.1", 15), ("1.22.0", 23)))
    devices = [named("pi5", new), named("nano", old)]
    assert version_on(devices, on("onnxruntime")) == "1.9.1"
    assert opset_on(devices, on("onnxruntime")) == opset_for(devices[1].info, on("onnxruntime"))


@pytest.mark.parametrize(("fingerprint", "most"), [({"cores": 2}, 2), ({"affinity": [3], "cores": 8}, 1), ({}, 8)])
def test_a_run_has_no_more_threads_than_the_device_has_cores(fingerprint, most):
    info = FakeDevice().info._replace(fingerprint=fingerprint)
    assert [count for count in (1, 2, 8) if too_few_cores("pi", cores_of(info), count) is None][-1] == most


def test_numbers_of_threads_without_cores_are_named_and_refused_where_none_is_left():
    device = FakeDevice("pi", info=FakeDevice().info._replace(fingerprint={"cores": 2}))
    why = "device pi has 2 cores for measurements, so no run of 4 threads"
    assert all_without_cores(cores_by_name([device]), space_of(8, threads=[1, 2, 4])) == [why]
    with pytest.raises(ResourceError, match=why):
        all_without_cores(cores_by_name([device]), space_of(8, threads=[4]))


def test_numbers_of_streams_without_cores_are_named_and_refused_where_none_is_left():
    device = FakeDevice("pi", info=FakeDevice().info._replace(fingerprint={"cores": 2}))
    why = "device pi has 2 cores for measurements, so no 4 streams"
    assert all_without_cores(cores_by_name([device]), space_of(streams=[1, 2, 4])) == [why]
    with pytest.raises(ResourceError, match="so no 2 streams of 2 threads"):
        all_without_cores(cores_by_name([device]), space_of(2, streams=[2]))


def test_streams_of_an_accelerator_need_no_cores():
    info = FakeDevice().info._replace(fingerprint={"cores": 2}, runtimes=(TRTEXEC,))
    assert (
        all_without_cores(
            cores_by_name([FakeDevice("nano", info=info)]), space_of(backend=["tensorrt"], streams=[1, 8])
        )
        == []
    )
    assert deployable("nano", info)(Deployment("nano", "tensorrt", "gpu", "fp16", batch=1, streams=8)) is None
