"""Files of lower precision, and training for int8.

quantize.py      an onnxruntime file at every precision from an fp32 file
layers.py        the layers of a graph that static int8 can cover
qdq.py           QuantizeLinear and DequantizeLinear around layers, for runtimes that read them
every_operator.py 8-bit weights and activations of 8 or 16 bits in every operator, for NPUs
int8_static.py   int8 with fixed scales, for onnxruntime on x86
int8_weights.py  int8 in the file, fp32 in the arithmetic
half.py          fp16
fake_quant.py    training with the rounding of int8_static
sensitivity.py   effect of rounding one layer on the outputs
onnx_graph.py    constants and nodes of ONNX files
"""
