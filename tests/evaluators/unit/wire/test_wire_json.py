"""Golden JSON of everything that a device answers; a change of it needs a new protocol version."""

import pytest

from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.device_info import DeviceInfo, RuntimeInfo
from vitsearch_agent.wire.hardware import Hardware
from vitsearch_agent.wire.job_spec import Owner
from vitsearch_agent.wire.job_status import JobStatus
from vitsearch_agent.wire.measure_protocol import SCREEN
from vitsearch_agent.wire.measurement import Contention, Latency, Measurement, Power, Reading, Temperature
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes
from vitsearch_agent.wire.processor_counters import Counters
from vitsearch_agent.wire.restriction import Restriction
from vitsearch_agent.wire.results import PART_MAX_BYTES, Gemm, OutputsResult, Part, PeaksResult, Rate

LATENCY = Latency(70, 2.0, 2.5, None, None, 2.1, 1.9, 3.0, 1.95, 2.05)
LATENCY_JSON = {
    "n": 70,
    "p50": 2.0,
    "p90": 2.5,
    "p95": None,
    "p99": None,
    "mean": 2.1,
    "min": 1.9,
    "max": 3.0,
    "ci95_low": 1.95,
    "ci95_high": 2.05,
}
MEASUREMENT = Measurement(
    job_id="a1" * 32,
    artifact="b2" * 32,
    device_id="device-1",
    environment_id="c3" * 32,
    protocol=SCREEN,
    runtime="onnxruntime",
    runtime_version="1.23.2",
    options={"provider": "CPUExecutionProvider"},
    batch=1,
    shapes={"images": (1, 3, 224, 224)},
    latency_ms=LATENCY,
    cpu_ms=LATENCY,
    load_ms=12.5,
    first_inference_ms=4.0,
    throughput_ips=476.2,
    peak_memory_mb=30.5,
    runtime_baseline_mb=50.0,
    gpu_memory_mb=310.5,
    between_process_rel_spread=None,
    sustained=LATENCY,
    concurrent=LATENCY,
    temperature=Temperature("cpu-thermal", 41.5, 60.0, 61.25),
    power=Power(
        4.5, 2.1, 9.0, 4.8, "ina3221", "module", False, 20.0, 200, 0.01, {"power_w_other": Reading(None, "no samples")}
    ),
    swap_mb=None,
    contention=Contention(0.01, 1.0),
    basis="paired",
    processes=2,
    paired=Paired(
        "d4" * 32,
        Ratio(4.0, 0.5, 0.125, 0.03, 20.0),
        Ratio(4.25, 0.25, 0.25, None, 21.0),
        ReferenceTimes(2.0, 0.1, 2.5, 0.125, 40, False),
    ),
    counters=Counters(12.5, 6.25),
    flags=("contended",),
    reasons={"swap_mb": "no /proc/vmstat"},
    attempts=1,
    queue_s=0.5,
    seconds=2.5,
    cpu_seconds=1.5,
    emulated=False,
    started_at="2026-01-02T03:04:05Z",
)
MEASUREMENT_JSON = {
    "job_id": "a1" * 32,
    "artifact": "b2" * 32,
    "device_id": "device-1",
    "environment_id": "c3" * 32,
    "protocol": SCREEN.to_json(),
    "runtime": "onnxruntime",
    "runtime_version": "1.23.2",
    "options": {"provider": "CPUExecutionProvider"},
    "batch": 1,
    "shapes": {"images": [1, 3, 224, 224]},
    "latency_ms": LATENCY_JSON,
    "cpu_ms": LATENCY_JSON,
    "load_ms": 12.5,
    "first_inference_ms": 4.0,
    "throughput_ips": 476.2,
    "peak_memory_mb": 30.5,
    "runtime_baseline_mb": 50.0,
    "gpu_memory_mb": 310.5,
    "between_process_rel_spread": None,
    "sustained": LATENCY_JSON,
    "concurrent": LATENCY_JSON,
    "temperature": {"zone": "cpu-thermal", "start_c": 41.5, "end_c": 60.0, "max_c": 61.25},
    "power": {
        "mean_w": 4.5,
        "idle_w": 2.1,
        "energy_mj": 9.0,
        "energy_net_mj": 4.8,
        "source": "ina3221",
        "scope": "module",
        "estimated": False,
        "rate_hz": 20.0,
        "n": 200,
        "relative_error": 0.01,
        "further": {"power_w_other": {"number": None, "reason": "no samples"}},
    },
    "swap_mb": None,
    "contention": {"wait_over_cpu": 0.01, "wall_over_cpu": 1.0},
    "basis": "paired",
    "processes": 2,
    "paired": {
        "reference": "d4" * 32,
        "cpu": {"value": 4.0, "weight": 0.5, "weight_error": 0.125, "rel_half_width": 0.03, "references": 20.0},
        "wall": {"value": 4.25, "weight": 0.25, "weight_error": 0.25, "rel_half_width": None, "references": 21.0},
        "times": {
            "products_cpu_ms": 2.0,
            "convolutions_cpu_ms": 0.1,
            "products_wall_ms": 2.5,
            "convolutions_wall_ms": 0.125,
            "processes": 40,
            "provisional": False,
        },
    },
    "counters": {"instructions_m": 12.5, "cycles_m": 6.25},
    "flags": ["contended"],
    "reasons": {"swap_mb": "no /proc/vmstat"},
    "attempts": 1,
    "queue_s": 0.5,
    "seconds": 2.5,
    "cpu_seconds": 1.5,
    "emulated": False,
    "started_at": "2026-01-02T03:04:05Z",
}
DEVICE = DeviceInfo(
    api_min=2,
    api_max=2,
    agent_version="0.1.0",
    device_id="device-1",
    kind="physical",
    environment_id="c3" * 32,
    fingerprint={"cores": 4},
    runtimes=(RuntimeInfo("onnxruntime", False, "not installed", None, (), ("onnx",), 23, 11, ("fp32",)),),
    job_kinds=("measure",),
    max_blob_bytes=1000,
    queued=1,
    running=0,
    memory_mb=4000,
    power_meter="ina3221",
    quarantined=None,
    emulation=None,
    restrictions=(Restriction("files", True, "Landlock ABI 4"),),
    hardware=Hardware("nano", "Jetson Nano", "arm 0x41/0xd07", "5e" * 16, ("ad" * 16,), None),
)
DEVICE_JSON = {
    "api_min": 2,
    "api_max": 2,
    "agent_version": "0.1.0",
    "device_id": "device-1",
    "kind": "physical",
    "environment_id": "c3" * 32,
    "fingerprint": {"cores": 4},
    "runtimes": [
        {
            "name": "onnxruntime",
            "available": False,
            "reason": "not installed",
            "version": None,
            "providers": [],
            "artifacts": ["onnx"],
            "max_opset": 23,
            "max_ir_version": 11,
            "precisions": ["fp32"],
            "program": None,
        }
    ],
    "job_kinds": ["measure"],
    "max_blob_bytes": 1000,
    "queued": 1,
    "running": 0,
    "memory_mb": 4000,
    "power_meter": "ina3221",
    "quarantined": None,
    "emulation": None,
    "restrictions": [{"name": "files", "holds": True, "detail": "Landlock ABI 4"}],
    "hardware": {
        "host": "nano",
        "board": "Jetson Nano",
        "processor": "arm 0x41/0xd07",
        "serial": "5e" * 16,
        "adapters": ["ad" * 16],
        "machine_id": None,
    },
}
STATUS = JobStatus("a1" * 32, "done", Owner("study", 7), 1, None, MEASUREMENT)
STATUS_JSON = {
    "id": "a1" * 32,
    "kind": "measure",
    "state": "done",
    "owner": {"study": "study", "trial": 7},
    "attempts": 1,
    "error": None,
    "result": MEASUREMENT_JSON,
}
OUTPUTS_JSON = {
    "job_id": "a1" * 32,
    "artifact": "b2" * 32,
    "images": "c3" * 32,
    "device_id": "device-1",
    "environment_id": "e5" * 32,
    "runtime": "onnxruntime",
    "runtime_version": "1.20.1",
    "reduction": "argmax_uint16",
    "options": {},
    "batch": 16,
    "shapes": None,
    "n": 200,
    "item_shape": [256, 256],
    "dtype": "<u2",
    "not_finite": 1,
    "parts": [{"sha256": f"{number:064x}", "size": PART_MAX_BYTES} for number in range(3)]
    + [{"sha256": "f6" * 32, "size": 200 * 256 * 256 * 2 - 3 * PART_MAX_BYTES}],
    "attempts": 1,
    "queue_s": 0.5,
    "seconds": 12.5,
    "cpu_seconds": 1.5,
    "emulated": False,
    "started_at": "2026-11-25T12:00:00Z",
}
OUTPUTS = OutputsResult(
    **dict(OUTPUTS_JSON, item_shape=(256, 256), parts=tuple(Part(**part) for part in OUTPUTS_JSON["parts"]))
)
PEAKS_JSON = {
    "job_id": "a1" * 32,
    "device_id": "device-1",
    "environment_id": "e5" * 32,
    "runtime": "onnxruntime",
    "runtime_version": "1.20.1",
    "options": {},
    "gemm": [{"precision": "fp32", "threads": 4, "size": 1024, "gflops": {"best": 91.5, "median": 90.0, "n": 12}}],
    "copy_gb_per_s": {"best": 10.5, "median": 10.0, "n": 20},
    "copy_bytes": 67108864,
    "temperature_c": 48.5,
    "wait_over_cpu": None,
    "reasons": {"fp16": "not a number", "wait_over_cpu": "no scheduler statistics"},
    "attempts": 1,
    "queue_s": 0.5,
    "seconds": 12.5,
    "cpu_seconds": 1.5,
    "emulated": False,
    "started_at": "2026-11-25T12:00:00Z",
}
PEAKS = PeaksResult(
    **dict(
        PEAKS_JSON,
        gemm=(Gemm("fp32", 4, 1024, Rate(91.5, 90.0, 12)),),
        copy_gb_per_s=Rate(10.5, 10.0, 20),
    )
)
GOLDEN = [
    (OUTPUTS, OUTPUTS_JSON),
    (PEAKS, PEAKS_JSON),
    (
        STATUS._replace(kind="outputs", result=OUTPUTS),
        dict(STATUS_JSON, kind="outputs", result=OUTPUTS_JSON),
    ),
    (LATENCY, LATENCY_JSON),
    (MEASUREMENT, MEASUREMENT_JSON),
    (DEVICE, DEVICE_JSON),
    (STATUS, STATUS_JSON),
]
IDS = [f"{type(record).__name__}-{getattr(record, 'kind', '')}" for record, _ in GOLDEN]


@pytest.mark.parametrize(("record", "golden"), GOLDEN, ids=IDS)
def test_golden_json(record, golden):
    assert record.to_json() == golden
    assert digest(type(record).from_json(golden).to_json()) == digest(golden)
    assert type(record).from_json(golden) == record


@pytest.mark.parametrize(("record", "golden"), GOLDEN, ids=IDS)
def test_missing_and_unknown_keys_are_refused(record, golden):
    for key in golden:
        lacking = {name: value for name, value in golden.items() if name != key}
        with pytest.raises(InvalidRequest, match=f"missing {key}"):
            type(record).from_json(lacking)
    with pytest.raises(InvalidRequest, match="unknown surprise"):
        type(record).from_json(dict(golden, surprise=1))


def test_a_result_is_read_by_its_kind():
    with pytest.raises(InvalidRequest, match="job.result: unknown .* and missing"):
        JobStatus.from_json(dict(STATUS_JSON, kind="outputs"))
    with pytest.raises(InvalidRequest, match="job.kind: 'dance' is not one of measure, outputs, peaks"):
        JobStatus.from_json(dict(STATUS_JSON, kind="dance"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "sum"}, "reduction: 'sum' is not one of none, argmax_uint8, argmax_uint16"),
        ({"dtype": "<f4"}, "dtype: argmax_uint16 keeps <u2, not <f4"),
        ({"not_finite": 201}, "not_finite: 201 of 200 images"),
        ({"n": 199}, "parts: not the sizes of <u2 of shape"),
        ({"item_shape": [256]}, "parts: not the sizes"),
        ({"item_shape": [0]}, r"item_shape\[0\]: expected a whole number from 1"),
        ({"item_shape": [2**31 - 1] * 8}, "allowed are 268435456"),
        ({"parts": OUTPUTS_JSON["parts"][:3]}, "parts: not the sizes"),
        ({"parts": OUTPUTS_JSON["parts"][::-1]}, "parts: not the sizes"),
        ({"parts": [dict(OUTPUTS_JSON["parts"][0], size=PART_MAX_BYTES + 1)]}, r"parts\[0\].size: expected a whole"),
        ({"parts": OUTPUTS_JSON["parts"] * 9}, "parts: expected a list of at most 32"),
    ],
)
def test_outputs_whose_parts_are_not_theirs_are_refused(change, message):
    """Their sizes decide how much a client fetches."""
    with pytest.raises(InvalidRequest, match=message):
        OutputsResult.from_json(dict(OUTPUTS_JSON, **change))


def test_final_states():
    assert STATUS.final
    assert not STATUS._replace(state="running").final
