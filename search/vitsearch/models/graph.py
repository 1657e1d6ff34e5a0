"""Properties that all exported graphs share: the names of input and output, and the ONNX opset."""

INPUT, OUTPUT = "images", "logits"
"""float32 (batch, channels, height, width) and float32 (batch, classes)."""
OPSET = 17
