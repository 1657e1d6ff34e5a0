"""Context files: an ONNX file for onnxruntime, compiled for the NPU of a chip of Qualcomm by onnxruntime-qnn."""
