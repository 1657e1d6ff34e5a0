"""Checks of model files: their kind and what they need from a runtime, with the standard library only.

The same checks run in the client before it sends a file, in the agent before it queues a job, and in the child
before a runtime opens the file. A runtime may still refuse a file that passes; no runtime gets a file that fails.
"""

import os
from typing import BinaryIO, Callable, Dict, List, Mapping, Optional

from vitsearch_agent.artifacts import magic_bytes
from vitsearch_agent.artifacts.facts import Declared, Facts, refusal
from vitsearch_agent.base import plugins
from vitsearch_agent.base.plugins import IMPORTING
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import FORMATS
from vitsearch_agent.wire.device_info import ANY_ARTIFACT, RuntimeInfo
from vitsearch_agent.wire.job_spec import ARTIFACTS

__all__ = [
    "DECLARING",
    "Declared",
    "Facts",
    "calibration",
    "declared_inputs",
    "inspect",
    "model_files",
    "refuse_incompatible",
]

DECLARING = tuple(kind for kind, form in FORMATS.items() if form.inputs is not None)
"""The kinds whose files `declared_inputs` reads."""


def model_files(path: str) -> Dict[str, str]:
    """Return a model's files by their names in a job (`job_spec.ARTIFACTS`), the model file first.

    The suffix of `path` decides the kind; a file with none of theirs is ONNX. Its other files lie beside it.
    """
    stem, ending = os.path.splitext(path)
    files = next((form.files for form in FORMATS.values() if form.files[0] == "model" + ending), FORMATS["onnx"].files)
    return {name: path if name == files[0] else stem + os.path.splitext(name)[1] for name in files}


def inspect(kind: str, files: Mapping[str, str]) -> Facts:
    """Check a model and return what it needs. `files` maps its names (`job_spec.ARTIFACTS`) to paths.

    Raises MeasurementFailed `incompatible_artifact` with the reason if no runtime may get it, and OSError.
    """
    path = files[ARTIFACTS[kind][0]]
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        head = stream.read(magic_bytes.HEAD_BYTES)
        stream.seek(0)
        _refuse_other_formats(kind, head)
        check: Callable[[BinaryIO, int, Mapping[str, str]], Facts] = plugins.loaded(FORMATS[kind].inspect)
        return check(stream, size, files)


def declared_inputs(kind: str, path: str) -> List[Declared]:
    """Return the inputs that a model file declares, without loading it; only for the kinds in `DECLARING`.

    Raises MeasurementFailed `incompatible_artifact` for a damaged file, and OSError.
    """
    target = FORMATS[kind].inputs
    assert target is not None
    read: Callable[[BinaryIO, int], List[Declared]] = plugins.loaded(target)
    with open(path, "rb") as stream:
        return read(stream, os.path.getsize(path))


def calibration(path: str) -> Optional[str]:
    """Return the scales for TensorRT in the metadata of an ONNX file (`onnx_file.CALIBRATION`), None without them.

    Raises MeasurementFailed `incompatible_artifact` for a damaged file, and OSError.
    """
    with IMPORTING:
        from vitsearch_agent.artifacts import onnx_file

    with open(path, "rb") as stream:
        return onnx_file.calibration(stream, os.path.getsize(path))


def refuse_incompatible(kind: str, files: Mapping[str, str], runtime: RuntimeInfo) -> None:
    """Raise MeasurementFailed if a device's runtime cannot run a model: `runtime_unavailable` if the runtime is
    missing, else `incompatible_artifact` with the versions of the model and of the runtime."""
    if not runtime.available:
        raise MeasurementFailed(
            "runtime_unavailable", f"{runtime.name} is not available on the device: {runtime.reason}"
        )
    if ANY_ARTIFACT in runtime.artifacts:
        return
    if kind not in runtime.artifacts:
        raise refusal(f"{runtime.name} accepts {' and '.join(runtime.artifacts) or 'no files'}, but this is {kind}")
    facts = inspect(kind, files)
    here = f"this {runtime.name} ({runtime.version})"
    if facts.ir_version is not None and _exceeds(facts.ir_version, runtime.max_ir_version):
        raise refusal(f"the model has IR version {facts.ir_version}; {here} reads up to {runtime.max_ir_version}")
    opset = facts.opsets.get("", 0)
    if _exceeds(opset, runtime.max_opset):
        raise refusal(f"the model has opset {opset}; {here} reads up to {runtime.max_opset}")


def _exceeds(version: int, newest: Optional[int]) -> bool:
    return newest is not None and version > newest


def _refuse_other_formats(kind: str, head: bytes) -> None:
    what = magic_bytes.other_format(head)
    if what is not None:
        raise refusal(f"the model file is {what}")
    other = magic_bytes.other_kind(head)
    if other not in (None, kind):
        raise refusal(f"the model file is {other}, but was sent as {kind}")
