"""The fp32 ONNX file from which most files start, in few nodes, and onnxruntime's own operators."""
