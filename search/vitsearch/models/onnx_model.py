"""A network that is an ONNX file, as a torch module: it can be run, saved and exported, but not cut or trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from vitsearch.models.classifier import ATTRIBUTE, Classifier
from vitsearch.models.onnx_format import INPUT

if TYPE_CHECKING:
    import onnx

FATAL_ONLY = 4
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "MatMulInteger"})
"""Operators of a file whose numbers are rounded already; beside them all whose names begin with `QLinear`."""


class OnnxModel(nn.Module):
    """Runs a file in onnxruntime on one thread of the CPU, whatever device its images are on.

    The file takes float32 `images` and gives float32 `logits`. It is a buffer, so the state dict of this module is the
    file.

    Args:
        file: Its bytes, uint8 (size,).
        counts: int64 (3,): MACs for one image, parameters, and those of linear layers among them.
        classes: The number of logits.
    """

    file: torch.Tensor
    counts: torch.Tensor

    def __init__(self, file: torch.Tensor, counts: torch.Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("file", file)
        self.register_buffer("counts", counts)
        self._session: Any = None
        setattr(self, ATTRIBUTE, Classifier(None, classes))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    @property
    def opset(self) -> int:
        """The version of the standard operators of the file."""
        return opset_of(self.proto())

    @property
    def is_quantized(self) -> bool:
        """Whether the file computes in integers already."""
        return is_quantized(self.proto())

    def proto(self) -> onnx.ModelProto:
        """Read the file.

        Returns:
            A new model, which callers may change.
        """
        import onnx

        return onnx.load_from_string(self.file.cpu().numpy().tobytes())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            images: (batch, channels, height, width).

        Returns:
            float32 (batch, classes).
        """
        if self._session is None:
            self._session = session_of(self.proto())
        pixels = images.detach().float().cpu().numpy()
        size = self._session.get_inputs()[0].shape[0]
        step = size if isinstance(size, int) else max(1, len(pixels))
        runs = [
            self._session.run(None, {INPUT: np.ascontiguousarray(pixels[start : start + step])})[0]
            for start in range(0, len(pixels), step)
        ]
        return torch.from_numpy(np.concatenate(runs)).to(images.device)


def session_of(model: onnx.ModelProto) -> Any:
    """Start onnxruntime with a model, on one thread.

    Args:
        model: A model that has no files beside it.

    Returns:
        An `onnxruntime.InferenceSession`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a file computes in integers already."""
    return any(node.op_type in QUANTIZED or node.op_type.startswith("QLinear") for node in model.graph.node)


def has_subgraphs(model: onnx.ModelProto) -> bool:
    """Whether a file has branches or loops."""
    return any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators of a file."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def fixed_batch(model: onnx.ModelProto) -> int:
    """The number of images in a run of a file; 0 for any number."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
