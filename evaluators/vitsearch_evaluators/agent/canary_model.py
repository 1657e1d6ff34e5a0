"""The canary's model: products of matrices as in the reference models, in an ONNX file of some kilobytes.

    image [1, 64, 256] --> (MatMul with a 256 x 256 matrix, Relu) x 8 --> logits [1, 64, 256]

A real amount of work: 34 million multiply-adds, 0.3 ms on a server, some 10 ms on a Raspberry Pi.
"""

from typing import Any, Dict, NamedTuple, Sequence

from vitsearch_evaluators.runtimes.reference_models import product_chain

_ROWS, _WIDTH, _LAYERS = 64, 256, 8


class CanaryModel(NamedTuple):
    """The runtime of the canary, with the file and the options for it."""

    runtime: str
    options: Dict[str, Any]
    content: bytes


def model_for(available: Sequence[str]) -> CanaryModel:
    """Return an ONNX model if onnxruntime is available, else a fixed amount of hashing."""
    if "onnxruntime" in available:
        return CanaryModel("onnxruntime", {}, product_chain(_ROWS, _WIDTH, _LAYERS))
    return CanaryModel("noop", {"hash_kib": 512}, b"canary")
