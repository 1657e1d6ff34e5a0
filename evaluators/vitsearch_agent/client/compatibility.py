"""Check whether a device can run a model, before any byte is sent."""

from typing import Mapping, Sequence

from vitsearch_agent import artifacts
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.protocol import ARTIFACTS, BlobRef, DeviceInfo


def refuse_too_large(model: Sequence[BlobRef], info: DeviceInfo) -> None:
    """Raise MeasurementFailed if a model is too large for the device: `incompatible_artifact` for one file,
    `out_of_memory` for the whole model."""
    for blob in model:
        if blob.size > info.max_blob_bytes:
            raise MeasurementFailed(
                "incompatible_artifact",
                f"{blob.name} has {blob.size} bytes; the device accepts files of up to {info.max_blob_bytes}",
            )
    model_mb = sum(blob.size for blob in model) / 1e6
    if info.memory_mb is not None and model_mb > info.memory_mb:
        raise MeasurementFailed(
            "out_of_memory", f"the model alone has {model_mb:.0f} MB; the device has {info.memory_mb} MB of memory"
        )


def refuse_incompatible(files: Mapping[str, str], runtime_name: str, info: DeviceInfo) -> None:
    """Raise as `artifacts.refuse_incompatible`; the agent decides about a runtime that the device does not list.

    `files` maps the names of all files of a model to their paths.
    """
    runtime = next((candidate for candidate in info.runtimes if candidate.name == runtime_name), None)
    if runtime is not None:
        kind = next(kind for kind, names in ARTIFACTS.items() if names[0] in files)
        artifacts.refuse_incompatible(kind, files, runtime)
