"""The digest of an architecture that no name stands for: a network of the user's own code.

It covers what decides about results besides the weights: the classes and settings of the modules, the names and shapes
of the parameters, the deviations with which they are drawn, and the graph of the fp32 file with the constants that the
code has put into it.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT, OnnxExporter
from vitsearch.errors import StageError
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.export.structure import onnx_graph
from vitsearch_agent.base.canonical_json import digest

if TYPE_CHECKING:
    import onnx

SCHEMA = 1
ADDRESS = re.compile(r"0x[0-9a-f]+")
"""In the text of a module that holds a function."""
LONGEST = 16
"""Values of a constant that are compared one by one. Longer ones are tables, which processors compute a little
differently, or weights: of these it is the shape, the mean and the deviation."""


@dataclass(frozen=True)
class Architecture:
    """The SHA-256 of an architecture, and the exporter that can write it."""

    digest: str
    exporter: OnnxExporter


def architecture_of(model: nn.Module, images: torch.Tensor) -> Architecture:
    """Name an architecture.

    Args:
        model: In evaluation mode, as its code has made it; takes `images`.
        images: (batch, channels, height, width), of which only the shape counts.

    Returns:
        Its digest, in which values of weights do not enter.

    Raises:
        StageError: No ONNX file can be written of it, by either exporter.
    """
    filled = _filled(model)
    shapes = [[name, list(value.shape), str(value.dtype)] for name, value in filled.state_dict().items()]
    drawn = [f"{float(parameter.detach().std()):.3g}" for parameter in model.parameters() if parameter.numel() > 1]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exporter = _written(filled, images, path)
        graph = list(onnx_graph(path, _constant))
    modules = ADDRESS.sub("", repr(model))
    named = {"schema": SCHEMA, "modules": modules, "parameters": shapes, "drawn": drawn, "graph": graph}
    return Architecture(digest(named), exporter)


def _written(model: nn.Module, images: torch.Tensor, path: Path) -> OnnxExporter:
    """The first exporter that writes the model with an open batch."""
    try:
        write_onnx(model, tuple(images.shape), path, exporter=TORCHSCRIPT)
    except StageError as first:
        try:
            write_onnx(model, tuple(images.shape), path, exporter=DYNAMO)
        except StageError:
            raise first from None
        return DYNAMO
    return TORCHSCRIPT


@torch.no_grad()
def _filled(model: nn.Module) -> nn.Module:
    """A copy with weights that are the same on every machine."""
    filled = copy.deepcopy(model)
    for parameter in filled.parameters():
        parameter.copy_(_pattern(parameter))
    for module in filled.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.zero_()
            module.running_var.fill_(1.0)
    return filled


def _pattern(values: torch.Tensor) -> torch.Tensor:
    return ((torch.arange(values.numel()) * 37 % 101 + 1) / 1024).reshape(values.shape).to(values)


def _constant(tensor: onnx.TensorProto) -> Any:
    import onnx

    values = onnx.numpy_helper.to_array(tensor)
    described = [tensor.data_type, list(tensor.dims)]
    if values.size <= LONGEST or values.dtype.kind != "f":
        return [*described, [f"{value:.5g}" for value in values.ravel().tolist()]]
    numbers = values.astype(np.float64)
    return [*described, f"{numbers.mean():.3g}", f"{numbers.std():.3g}"]
