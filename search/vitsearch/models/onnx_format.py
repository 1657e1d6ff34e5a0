"""Properties that all exported graphs share: the names of input and output, and the ONNX opsets."""

INPUT, OUTPUT = "images", "logits"
"""float32 (batch, channels, height, width) and float32 (batch, classes)."""
OPSET, OLDEST_OPSET = 17, 13
"""The ONNX opset of the files, and the oldest one in which they can be written for a device that reads no newer one.
LayerNorm is one operator since 17; before, torch's exporter writes its parts."""
MAX_BYTES = 2**31
"""Of an ONNX file: Protocol Buffers hold no more. Larger weights would need files beside it."""
