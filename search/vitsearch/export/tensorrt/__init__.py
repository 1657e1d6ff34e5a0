"""ONNX files in the form that a version of TensorRT reads."""
