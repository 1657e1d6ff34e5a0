"""Core ML programs, and ONNX files that stand for them where they cannot run."""
