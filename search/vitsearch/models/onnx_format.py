"""Properties that all exported graphs share: the names of input and output, and the ONNX opsets of most of them."""

from vitsearch.core.onnx_exporters import TORCHSCRIPT

INPUT, OUTPUT = "images", "logits"
"""float32 (batch, channels, height, width) and float32 (batch, classes)."""
OPSET, OLDEST_OPSET = TORCHSCRIPT.opset, TORCHSCRIPT.oldest_opset
"""The ONNX opset of the files, and the oldest one in which they can be written for a device that reads no newer one;
the architectures of `vitsearch.core.onnx_exporters.NEEDS_DYNAMO` have their own."""
MAX_BYTES = 2**31
"""Of an ONNX file: Protocol Buffers hold no more. Larger weights would need files beside it."""
