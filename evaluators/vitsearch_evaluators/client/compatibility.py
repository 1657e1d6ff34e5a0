"""Whether a device can run a model, found out before a byte of it is sent."""

from typing import Mapping, Sequence

from vitsearch_evaluators import artifacts
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.wire.protocol import ARTIFACTS, BlobRef, DeviceInfo


def refuse_too_large(model: Sequence[BlobRef], info: DeviceInfo) -> None:
    """Raise MeasurementFailed for what a device cannot hold: `incompatible_artifact` for a file,
    `out_of_memory` for the whole model."""
    for blob in model:
        if blob.size > info.max_blob_bytes:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"{blob.name} has {blob.size} bytes, the device takes files of up to {info.max_blob_bytes}",
            )
    model_mb = sum(blob.size for blob in model) / 1e6
    if info.memory_mb is not None and model_mb > info.memory_mb:
        raise MeasurementFailed(
            "out_of_memory", f"the model alone has {model_mb:.0f} MB, the device has {info.memory_mb} MB of memory"
        )


def refuse_incompatible(files: Mapping[str, str], runtime_name: str, info: DeviceInfo) -> None:
    """Raise what `artifacts.refuse_incompatible` does; a runtime that the device does not name is left to the agent.

    `files`: all files of a model, by the names that a job gives them -> where they lie.
    """
    runtime = next((one for one in info.runtimes if one.name == runtime_name), None)
    if runtime is not None:
        kind = next(kind for kind, names in ARTIFACTS.items() if names[0] in files)
        artifacts.refuse_incompatible(kind, files, runtime)
