"""What a deployment asks of an agent: the name of the agent's runtime, and its options."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import RUNTIMES

ON_DEVICE: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "litert": ("litert", "benchmark_model"),
    "executorch": ("executorch",),
    "tensorrt": ("trtexec",),
    "coreml": ("coreml",),
}
"""Runtime of a plan -> the agent's runtimes that run its files, the preferred one first."""


@dataclass(frozen=True)
class DeviceJob:
    """`runtime` and `options` as the agent knows them."""

    runtime: str
    options: dict[str, Any]


def device_job(deployment: Deployment, available: Collection[str] = ()) -> DeviceJob:
    """The job of a deployment on an agent that has the runtimes `available` (empty: any)."""
    candidates = ON_DEVICE.get(deployment.runtime, (deployment.runtime,))
    runtime = next((name for name in candidates if name in available), candidates[0])
    return DeviceJob(runtime, _options(deployment, runtime) | dict(deployment.options))


def _options(deployment: Deployment, runtime: str) -> dict[str, Any]:
    if deployment.runtime not in RUNTIMES:  # a runtime of another package: all of its options are in the plan
        return {}
    provider = RUNTIMES[deployment.runtime].providers[deployment.provider]
    if runtime == "onnxruntime":
        return {"provider": provider}
    if runtime == "executorch":  # the file says what its delegate computes
        return {}
    if runtime == "openvino":
        precision = {"bf16": "bf16", "fp16": "f16"}.get(deployment.precision, "f32")
        return {"device": provider, "inference_precision": precision}
    if runtime in ("litert", "benchmark_model"):
        return {"delegate": provider}
    if runtime == "trtexec":
        precision = "int8" if deployment.precision.startswith("int8") else deployment.precision
        return {"precision": precision}
    return {"compute_units": provider}
