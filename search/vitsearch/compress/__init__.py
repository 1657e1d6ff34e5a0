"""Make a model smaller, in the order in which it happens.

    scores.py      what each head and neuron is worth, and the statistics that the refit needs
    prune.py       remove heads and FFN channels (the only door to torch_pruning)
    refit.py       fit what is left in closed form, each layer on the base's activations
    sequential.py  fit it once more, each layer on what the layers before it now give
    stream.py      how a layer's output reaches the residual stream
    sparsity.py    weights that are zero and stay zero
    sparse_file.py which weights of a file are zero, and how it compresses
    quantize.py    fp32 and int8 files, what each runtime can take
    int8_static.py int8 with fixed scales, for onnxruntime on x86
    int8_weights.py  int8 in the file, fp32 in the arithmetic
    half.py        fp16
    onnx_graph.py  constants and nodes of ONNX files
    sensitivity.py what the rounding of one layer does to the answers
    fake_quant.py  training with the rounding of int8_static in place
    macs.py        multiply-accumulates and parameters
    matrices.py    linear layers and 1x1 convolutions as matrices

Importing this package imports none of them.
"""
