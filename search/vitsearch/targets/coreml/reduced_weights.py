"""Compressed weights of Core ML programs, and the values with which Core ML computes then.

    int8_weights   8-bit numbers, symmetric, with one scale for each output channel
    palette4       4-bit entries of a table of 16 values for each layer, found by k-means

A scale for each block of a channel is not written: on the Neural Engine such weights gave outputs with a cosine of
0.367 (GPU: 0.999) in Core AI on iOS 27.0 (apple/coreai-models issue 279, 2026-09-22). What is known against the two
that are written stands in `vitsearch.core.caveats.known_bad`.

Only the weights of linear and convolution layers are compressed, and not those with less than 2048 elements.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAYERS = frozenset({"conv", "conv_transpose", "linear"})
SMALLEST = 2048
"""Elements of the smallest tensor that is compressed: coremltools' own limit."""
_SUFFIXES = ("_quantized", "_palettized")
"""Which coremltools appends to the names of what it compresses."""


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """A weight tensor of a program: its values before it was compressed, and those with which Core ML computes."""

    name: str
    before: NDArray[np.floating[Any]]
    after: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Compressed:
    """A program, and those of its weights that were rounded."""

    program: Any
    rounded: tuple[RoundedWeights, ...] = ()


def compress(program: Any, precision: str) -> Compressed:
    """A copy of `program` with compressed weights."""
    from coremltools.optimize import coreml

    before = _weights(program)
    if precision == "int8_weights":
        method, run = coreml.OpLinearQuantizerConfig(mode="linear_symmetric"), coreml.linear_quantize_weights
    else:
        method, run = coreml.OpPalettizerConfig(mode="kmeans", nbits=4), coreml.palettize_weights
    # By name: a type of operator stands for all of its constants, and coremltools refuses those that two types share.
    small = run(program, coreml.OptimizationConfig(op_name_configs=dict.fromkeys(before, method)))
    plain = coreml.decompress_weights(small)
    after = {_original(name): values for name, values in _weights(plain).items()}
    forget(plain)
    return Compressed(small, tuple(RoundedWeights(name, before[name], after[name]) for name in before))


def forget(program: Any) -> None:
    """Delete the folder of a program. coremltools does it only when Python ends, and a worker makes many."""
    shutil.rmtree(program.package_path, ignore_errors=True)


def _weights(program: Any) -> dict[str, NDArray[np.floating[Any]]]:
    """The weights of linear and convolution layers by their names in the program."""
    from coremltools.optimize import coreml

    weights = {}
    for name, entry in coreml.get_weights_metadata(program, weight_threshold=SMALLEST).items():
        readers = [(reader.op_type, reader.params_name_mapping.get("weight")) for reader in entry.child_ops]
        if readers and all(kind in LAYERS and weight == name for kind, weight in readers):
            weights[name] = entry.val
    return weights


def _original(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
