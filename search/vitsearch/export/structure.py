"""What the cost of a file depends on: its operators, shapes and types, and how it is run, but not its weights.

Two plans whose files have the same structure are one measurement: `int8_ptq` of a model in which nothing can be
quantized is its fp32 file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from vitsearch.core.plan import Deployment
from vitsearch.export.base import ExportedFile
from vitsearch.export.device_jobs import device_job
from vitsearch_agent.artifacts.onnx_file import CALIBRATION
from vitsearch_agent.base.canonical_json import digest

if TYPE_CHECKING:
    import onnx

SCHEMA = 1
INDICES = frozenset({"i64", "boolean"})
"""OpenVINO's types of constants that are shapes and indices, which belong to the structure."""


def digest_of(file: ExportedFile, deployment: Deployment) -> str | None:
    """Digest of the structure of `file` and of the job that runs it; None for a format whose structure is not read.

    Weights that are zero may be skipped by a runtime, so the share of zeros in each counts, in tenths.
    """
    if file.path.suffix == ".onnx":
        graph: Any = list(onnx_graph(file.path, _constant))
    elif file.path.suffix == ".xml":
        graph = list(_openvino(file.path))
    else:
        return None
    job = device_job(deployment.with_options(file.options))
    run = {"runtime": job.runtime, "options": job.options, "batch": deployment.batch}
    return digest({"schema": SCHEMA, "run": run, "graph": graph})


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


def _openvino(path: Path) -> Iterator[Any]:
    """The layers in their order without names, and the edges between them."""
    content = path.with_suffix(".bin").read_bytes()
    root = ElementTree.parse(path).getroot()
    numbers: dict[str | None, int] = {}
    for layer in root.iterfind("layers/layer"):
        number = numbers.setdefault(layer.get("id"), len(numbers))
        element = layer.find("data")
        data = {} if element is None else dict(element.attrib)
        if layer.get("type") == "Const":
            start, size = int(data.pop("offset")), int(data.pop("size"))
            data["values"] = _values(content[start : start + size], data["element_type"])
        ports = [[size.text for size in port.iter("dim")] for port in layer.iter("port")]
        yield [number, layer.get("type"), layer.get("version"), data, ports]
    for edge in root.iterfind("edges/edge"):
        ends = numbers[edge.get("from-layer")], numbers[edge.get("to-layer")]
        yield [*ends, edge.get("from-port"), edge.get("to-port")]


def _values(content: bytes, kind: str) -> Any:
    return content.hex() if kind in INDICES else int(10 * content.count(0) / max(len(content), 1))
