"""What the cost of a file depends on: its operators, shapes and types, and how it is run, but not its weights.

Two plans whose files have the same structure are one measurement: `int8_ptq` of a model in which nothing can be
quantized is its fp32 file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS
from vitsearch.export.base import ExportedFile
from vitsearch.export.device_jobs import device_job
from vitsearch.registry import loaded
from vitsearch_agent.artifacts.onnx_file import CALIBRATION
from vitsearch_agent.base.canonical_json import digest

if TYPE_CHECKING:
    import onnx

SCHEMA = 1


def digest_of(file: ExportedFile, deployment: Deployment) -> str | None:
    """Digest of the structure of `file` and of the job that runs it; None for a format whose structure is not read.

    Weights that are zero may be skipped by a runtime, so the share of zeros in each counts, in tenths.
    """
    target = TARGETS.get(deployment.runtime)
    if target is None or target.structure is None:
        return None
    graph = list(loaded(target.structure)(file.path))
    job = device_job(deployment.with_options(file.options))
    run = {"runtime": job.runtime, "options": job.options, "batch": deployment.batch}
    return digest({"schema": SCHEMA, "run": run, "graph": graph})


def of_onnx(path: Path) -> Iterator[Any]:
    """What the cost of an ONNX file depends on."""
    return onnx_graph(path, _constant)


def onnx_graph(path: Path, constant: Callable[[onnx.TensorProto], Any]) -> Iterator[Any]:
    """Describe a graph in plain values that do not depend on names.

    Args:
        path: An ONNX file.
        constant: Describes a tensor that the file holds.

    Yields:
        The operator sets, the inputs, then the operators in their order; tensors are numbered as they appear.
    """
    import onnx

    model = onnx.load(path)
    yield [[entry.domain, entry.version] for entry in model.opset_import]
    constants = {value.name: constant(value) for value in model.graph.initializer}
    numbers: dict[str, int] = {}

    def tensor(name: str) -> Any:
        return constants[name] if name in constants else numbers.setdefault(name, len(numbers)) if name else None

    for value in model.graph.input:
        kind = value.type.tensor_type
        yield [tensor(value.name), kind.elem_type, [size.dim_value or None for size in kind.shape.dim]]
    for node in model.graph.node:
        attributes = sorted((each.name, _attribute(each, constant)) for each in node.attribute)
        yield [
            node.domain,
            node.op_type,
            [[name, value] for name, value in attributes],
            [*map(tensor, node.input)],
            [*map(tensor, node.output)],
        ]
    yield [tensor(value.name) for value in model.graph.output]
    # Which tensors a calibration cache names decides what becomes int8; the ranges in it change no time.
    for entry in model.metadata_props:
        if entry.key == CALIBRATION:
            yield sorted(str(tensor(line.partition(": ")[0])) for line in entry.value.splitlines()[1:])


def _attribute(attribute: onnx.AttributeProto, constant: Callable[[onnx.TensorProto], Any]) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return constant(value)
    if isinstance(value, float):
        return struct.pack("<f", value).hex()
    return attribute.SerializeToString(deterministic=True).hex()


def _constant(tensor: onnx.TensorProto) -> Any:
    """Its type and shape; of shapes and indices the values too, of weights the share of zeros."""
    import numpy as np
    import onnx

    kind, values = tensor.data_type, onnx.numpy_helper.to_array(tensor)
    if kind in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL):
        return [kind, list(tensor.dims), values.ravel().tolist()]
    zeros = 1.0 - np.count_nonzero(values) / max(values.size, 1)
    return [kind, list(tensor.dims), int(10 * zeros)]
