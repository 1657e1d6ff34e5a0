"""Quantizes a TFLite file by the recipe of ai-edge-quantizer's examples: int8 weights, inputs quantized at run time.

    python ai_edge_default.py PLAIN FINAL

`runtimes.py bases` runs this with the Python of the litert converter's environment.
"""

from __future__ import annotations

import sys


def main(plain: str, final: str) -> None:
    from ai_edge_quantizer import quantizer, recipe

    quantizer.Quantizer(plain, recipe.dynamic_wi8_afp32()).quantize().export_model(final)


if __name__ == "__main__":
    main(*sys.argv[1:])
