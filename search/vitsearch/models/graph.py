"""Properties that all exported graphs share: the names of input and output, and the ONNX opset."""

INPUT, OUTPUT = "images", "logits"
"""float32 (batch, channels, height, width) and float32 (batch, classes)."""
OPSET = 17
MAX_BYTES = 2**31
"""Of an ONNX file: Protocol Buffers hold no more. Larger weights would need files beside it."""
