"""A model for ncnn: a linear layer from 3 images of 2 x 2 to 2, as pnnx writes one."""

import struct

WEIGHTS = [value / 16 for value in range(24)]
BIAS = [1.0, -1.0]
PARAM = """\
7767517
2 2
Input                    in0                      0 1 in0 0=2 1=2 2=3
InnerProduct             linear_0                 1 1 in0 out0 0=2 1=1 2=24
"""
BIN = struct.pack("<I24f2f", 0, *WEIGHTS, *BIAS)


def write(folder):
    """Write both files and return the path of the first."""
    (folder / "model.param").write_text(PARAM)
    (folder / "model.bin").write_bytes(BIN)
    return str(folder / "model.param")
