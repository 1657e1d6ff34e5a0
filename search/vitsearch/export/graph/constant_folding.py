"""Constants and shapes of an ONNX graph, found by running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from vitsearch.errors import StageError
from vitsearch.export.graph.onnx_rewrite import Rewrite

OPEN_BATCHES = (2, 3)
"""What differs between runs of these batches depends on the batch."""
KEPT = frozenset({"DequantizeLinear", "RandomNormal", "RandomUniform"})
"""Never made constants: integers would grow, and random numbers would stay the same."""
FATAL_ONLY = 4
Values = dict[str, NDArray[Any]]


def look(graph: Rewrite) -> None:
    """Fill the shapes of `graph`, and make constants of all that the image does not change.

    Shapes are taken from runs of the graph. A tensor that is computed from constants and shapes alone is a constant
    when it has one value in all runs; a shape that depends on the batch stays computed where it is still read.
    """
    fixed = _batch(graph.model)
    runs = [_run(graph, batch) for batch in ((fixed,) if fixed else OPEN_BATCHES)]
    graph.shapes = {name: tuple(run[name].shape for run in runs) for name in runs[0]}
    graph.shapes |= {name: (tuple(tensor.dims),) * len(runs) for name, tensor in graph.tensors.items()}
    graph.floats = {name for name, value in runs[0].items() if value.dtype == np.float32}
    static = set(graph.tensors)
    for node in graph.nodes:
        from_shapes = node.op_type in ("Shape", "Size")
        if from_shapes or (node.op_type not in KEPT and all(name in static for name in node.input if name)):
            static.update(node.output)
    _drop_aliases(graph)
    stored = [node.output[0] for node in graph.nodes if node.op_type == "Constant"]
    graph.redirect({name: graph.constant(runs[0][name], name) for name in stored if name not in graph.outputs})
    read = {name for node in graph.nodes if not static.issuperset(node.output) for name in node.input}
    computed = sorted(read & static - graph.tensors.keys())
    equal = [name for name in computed if all(np.array_equal(runs[0][name], run[name]) for run in runs)]
    graph.redirect({name: graph.constant(runs[0][name], name) for name in equal})
    graph.shapes |= {name: (tuple(tensor.dims),) * len(runs) for name, tensor in graph.tensors.items()}
    graph.prune()


def _batch(model: onnx.ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)


def _drop_aliases(graph: Rewrite) -> None:
    """Read constants directly: the exporter stores equal ones once and refers to them through Identity."""
    aliases = [node for node in graph.nodes if node.op_type == "Identity" and node.input[0] in graph.tensors]
    graph.redirect({node.output[0]: node.input[0] for node in aliases if node.output[0] not in graph.outputs})


def _run(graph: Rewrite, batch: int) -> Values:
    """All tensors that nodes of `graph` make, for random images."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    del watched.graph.output[:], watched.graph.value_info[:]
    names = [name for node in graph.nodes for name in node.output if name]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
        image_input = session.get_inputs()[0]
        images = np.random.default_rng(0).standard_normal([batch, *image_input.shape[1:]]).astype(np.float32)
        outputs = session.run(None, {image_input.name: images})
    except Exception as error:  # its exceptions have no other common class
        raise StageError("export", "crash", f"onnxruntime: {str(error).strip().splitlines()[-1]}") from error
    return dict(zip(names, outputs, strict=True)) | {image_input.name: images}
