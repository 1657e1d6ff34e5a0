"""What model files are and what they ask of a runtime, read with the standard library alone.

The same checks run in the client before anything is sent, in the agent before a job is queued, and in
the child before a runtime opens the file. A file that passes may still be refused by its runtime; a
file that is refused here reaches none.
"""

import os
from typing import Dict, Mapping, Optional

from vitsearch_evaluators.artifacts import magic
from vitsearch_evaluators.artifacts.base import Facts, refusal
from vitsearch_evaluators.base.importing import IMPORTING
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.wire.device_info import ANY_ARTIFACT, RuntimeInfo

__all__ = ["Facts", "inspect", "model_files", "refuse_unfit"]


def model_files(path: str) -> Dict[str, str]:
    """Return a model's files by the names that a job gives them (`jobspec.ARTIFACTS`), the model file first.

    The ending of `path` tells the kind; the weights of x.xml are x.bin. What ends otherwise is ONNX.
    """
    stem, ending = os.path.splitext(path)
    if ending == ".xml":
        return {"model.xml": path, "model.bin": stem + ".bin"}
    return {"model.tflite" if ending == ".tflite" else "model.onnx": path}


def inspect(kind: str, files: Mapping[str, str]) -> Facts:
    """Return what a model asks for. `files`: its names (`jobspec.ARTIFACTS`) -> where they lie.

    Raises MeasurementFailed `incompatible_artifact` with the reason for what no runtime is given, and OSError.
    """
    path = files["model.xml" if kind == "openvino" else f"model.{kind}"]
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        head = stream.read(magic.HEAD_BYTES)
        stream.seek(0)
        _refuse_foreign(kind, head)
        # Each is imported where it is needed: the child counts what it loads, and an idle agent too.
        if kind == "onnx":
            with IMPORTING:
                from vitsearch_evaluators.artifacts import onnx_file
            return onnx_file.inspect(stream, size)
        if kind == "tflite":
            with IMPORTING:
                from vitsearch_evaluators.artifacts import tflite_file
            return tflite_file.inspect(stream, size)
        with IMPORTING:
            from vitsearch_evaluators.artifacts import openvino_file
        return openvino_file.inspect(stream, size, os.path.getsize(files["model.bin"]))


def refuse_unfit(kind: str, files: Mapping[str, str], runtime: RuntimeInfo) -> None:
    """Raise MeasurementFailed when a runtime of a device cannot run a model: `runtime_unavailable`
    where it is not there, else `incompatible_artifact` with the version of either side."""
    if not runtime.available:
        raise MeasurementFailed("runtime_unavailable", f"{runtime.name} cannot be used there: {runtime.reason}")
    if ANY_ARTIFACT in runtime.artifacts:
        return
    if kind not in runtime.artifacts:
        raise refusal(f"{runtime.name} takes {' and '.join(runtime.artifacts) or 'no files'}, this is {kind}")
    facts = inspect(kind, files)
    here = f"this {runtime.name} ({runtime.version})"
    if facts.ir_version is not None and _exceeds(facts.ir_version, runtime.max_ir_version):
        raise refusal(f"the model has IR version {facts.ir_version}, {here} reads up to {runtime.max_ir_version}")
    opset = facts.opsets.get("", 0)
    if _exceeds(opset, runtime.max_opset):
        raise refusal(f"the model has opset {opset}, {here} reads up to {runtime.max_opset}")


def _exceeds(version: int, newest: Optional[int]) -> bool:
    return newest is not None and version > newest


def _refuse_foreign(kind: str, head: bytes) -> None:
    what = magic.foreign(head)
    if what is not None:
        raise refusal(f"the model file is {what}")
    other = magic.other_kind(head)
    if other not in (None, kind):
        raise refusal(f"the model file is {other}, but was sent as {kind}")
