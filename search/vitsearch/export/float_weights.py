"""The layers of an int8 file whose weights stay in floats."""

from __future__ import annotations

from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import quantized_ops_of
from vitsearch.export.base import ExportedFile

UNNAMED = "onnx::"


def float_weights(file: ExportedFile, deployment: Deployment) -> dict[str, int]:
    """Count the weights that an int8 file has in floats.

    Args:
        file: What was written.
        deployment: Where and how it runs.

    Returns:
        Layer -> bytes, largest first. Empty of files that are no ONNX files, and of precisions that let no layers be
        chosen.
    """
    chosen = quantized_ops_of(deployment.runtime, deployment.provider, deployment.precision)
    if not chosen or file.path.suffix != ".onnx":
        return {}
    import numpy as np
    import onnx

    from vitsearch.compress.quantization.layers import Layer, convolutions, linears

    def name(layer: Layer) -> str:
        stored = str(layer.node.input[1])
        return layer.node.name if stored.startswith(UNNAMED) else stored.removesuffix(".weight")

    graph = onnx.load(file.path).graph
    layers = [layer for layer in (*linears(graph), *convolutions(graph)) if layer.weight.dtype == np.float32]
    return {name(layer): layer.weight.nbytes for layer in sorted(layers, key=lambda layer: -layer.weight.nbytes)}
