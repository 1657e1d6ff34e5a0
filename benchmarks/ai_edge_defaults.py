"""Quantizes a TFLite file by a recipe of ai-edge-quantizer, everything else by its defaults.

    python ai_edge_defaults.py PLAIN FINAL RECIPE IMAGES

`runtimes.py bases` runs this with the Python of the litert converter's environment. IMAGES (.npy, float32) are those
that a static recipe is calibrated on.
"""

from __future__ import annotations

import sys


def main(plain: str, final: str, recipe_name: str, images: str) -> None:
    import numpy as np
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(plain, getattr(recipe, recipe_name)())
    ranges = None
    if made.need_calibration:
        samples = [{"images": image[None]} for image in np.load(images)]
        ranges = made.calibrate({"serving_default": samples})
    made.quantize(ranges).export_model(final)


if __name__ == "__main__":
    main(*sys.argv[1:])
