"""MACs of the kernels that OpenVINO runs on this machine's CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitsearch.core.plan import Deployment
from vitsearch.export.device_jobs import device_job
from vitsearch.export.evaluate import CPU, OpenFile
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.openvino_runtime import OpenVinoRuntime, OpenVinoSession

NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
PRODUCTS = frozenset({"FullyConnected", "MatMul"})
CONVOLUTIONS = frozenset({"Convolution", "Deconvolution"})
FUSED = frozenset({"Subgraph", "ScaledDotProductAttention"})
"""Kernels that compute several operators of the model, such as an attention, and name them."""
MOVES = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "VariadicSplit", "Slice", "StridedSlice", "Gather"}
)
"""Operators that change no value: int8 before them is int8 behind them."""


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run. Empty for another processor, and where this CPU computes in another precision than
    the deployment asks for: the device that takes it is another one."""
    if deployment.provider != CPU:
        return {}
    job, batch = device_job(deployment), deployment.batch or 1
    if opened is not None and (opened.job, opened.batch_size) == (job, batch):
        session = opened.session
    else:
        runtime = OpenVinoRuntime()
        try:
            session = runtime.load(str(path), runtime.check_options(job.options), 1, batch, {})
        except MeasurementFailed:
            return {}
    assert isinstance(session, OpenVinoSession)
    return _count(session.executed_graph(), _Model(path, batch))


def _count(executed: Any, model: _Model) -> Counter[str]:
    count: Counter[str] = Counter()
    for kernel in executed.get_ordered_ops():
        kind, precision = _info(kernel, "layerType"), NAMES.get(_info(kernel, "runtimePrecision"), "fp32")
        if kind in PRODUCTS:
            count[precision] += _product(kernel)
        elif kind in CONVOLUTIONS:
            count[precision] += _convolution(kernel, kind == "Deconvolution")
        elif kind in FUSED:
            for name in _info(kernel, "originalLayersNames").split(","):
                count[model.precision(name, precision)] += model.macs(name)
    return count


def _info(kernel: Any, key: str) -> str:
    info = kernel.get_rt_info()
    return str(info[key].value) if key in info else ""


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.get_shape())


def _product(kernel: Any) -> int:
    """Elements of the result x length of the sums, which is the last axis of the left operand or, transposed, the one
    before it."""
    left, result = _shape(kernel.input_value(0)), _shape(kernel.output(0))
    is_transposed = len(left) > 1 and len(result) > 1 and left[-2] != result[-2]
    return math.prod(result) * (left[-2] if is_transposed else left[-1])


def _convolution(kernel: Any, is_transposed: bool) -> int:
    """Positions x weights. With groups, weights have an axis more in front."""
    image = _shape(kernel.input_value(0) if is_transposed else kernel.output(0))
    return math.prod(image) // image[1] * math.prod(_shape(kernel.input_value(1)))


class _Model:
    """The operators of the model file, by name."""

    def __init__(self, path: Path, batch: int) -> None:
        import openvino

        model = openvino.Core().read_model(path)
        if model.is_dynamic():
            (images,) = model.inputs
            model.reshape([batch, *(size.get_length() for size in list(images.partial_shape)[1:])])
        self._operators = {each.get_friendly_name(): each for each in model.get_ops()}

    def macs(self, name: str) -> int:
        operator = self._operators.get(name)
        if operator is None:
            return 0
        result = math.prod(_shape(operator.output(0)))
        if operator.get_type_name() == "MatMul":
            left = _shape(operator.input_value(0))
            return result * left[-2 if operator.get_attributes()["transpose_a"] else -1]
        if operator.get_type_name() == "ScaledDotProductAttention":
            return (math.prod(_shape(operator.input_value(0))) + result) * _shape(operator.input_value(1))[-2]
        return 0

    def precision(self, name: str, of_kernel: str) -> str:
        """That of an operator within a kernel: a kernel that reads int8 computes those products in fp32 whose operands
        were not quantized."""
        operator = self._operators.get(name)
        if of_kernel != "int8" or operator is None or all(map(_is_quantized, _operands(operator))):
            return of_kernel
        return "fp32"


def _operands(operator: Any) -> Iterator[Any]:
    return (operator.input_value(index).get_node() for index in range(2))


def _is_quantized(node: Any) -> bool:
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "FakeQuantize")
