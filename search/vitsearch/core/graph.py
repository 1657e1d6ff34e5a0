"""What every exported graph has in common: the names of its input and output, and its ONNX opset."""

INPUT, OUTPUT = "images", "logits"
"""float32 (batch, channels, height, width) and float32 (batch, classes)."""
OPSET = 17
