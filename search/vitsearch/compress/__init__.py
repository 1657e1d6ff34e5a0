"""Compression of a model, listed in the order in which it is applied.

    scores.py         importance of each head, neuron, block and channel; statistics for the refit
    statistics.py     these values, and the file that keeps them
    prune.py          remove blocks, stream channels, heads and FFN channels (only importer of torch_pruning)
    refit.py          parallel closed-form refit from statistics of the base
    sequential.py     sequential closed-form refit, each layer on the outputs of the layers already fitted
    prune_width.py    refit of the layers that read a narrower residual stream
    stream.py         how the output of a layer reaches the residual stream
    least_squares.py  ridge regression that both sequential refits use
    matrices.py       linear layers and 1x1 convolutions as matrices
    batch_norms.py    recalibration of batch norms
    macs.py           multiply-accumulates and parameters
    tokens/           token pruning
    sparsity.py       weights that are zero and stay zero; sparse_file.py: those of an exported file
    quantization/     files of lower precision, and training for int8

Importing this package imports none of them.
"""
