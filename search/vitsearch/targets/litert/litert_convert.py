"""Writes TFLite files. This script runs with the Python of the litert converter's environment, not with ours: it must
not import vitsearch.

    python litert_convert.py convert PROGRAM PLAIN              torch.export program (.pt2) -> fp32 .tflite
    python litert_convert.py quantize PLAIN FINAL WAY [IMAGES]  fp32 .tflite -> .tflite of a precision

WAY is a precision of ours. IMAGES (.npy, float32, (n, channels, height, width), normalised) are those that static int8
is calibrated on. What is quantized was chosen by measurement on the three shipped bases:

    int8_dynamic  weights of linear layers; their inputs are quantized at run time, each row by itself. Convolutions
                  stay fp32: quantized at run time they are slower
    int8_ptq      linear layers and convolutions, at the lowest and highest value on the images. Products of two
                  activations stay fp32 (quantized they double the time), and so does the rest: a division of an
                  EfficientViT fails in int8
    int8_ptq_linear  the same without convolutions
    int8_weights  all weights, for their size; the arithmetic is fp32

On failure the last line of standard error is the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SIGNATURE = "serving_default"
INPUT = "images"
REASON_MAX = 400


def convert(program: Path, plain: Path) -> None:
    """The program takes `images` by name and returns `{"logits": ...}`; the file keeps both names."""
    import litert_torch
    import torch

    loaded = torch.export.load(program)
    if loaded.example_inputs is None:
        raise ValueError(f"{program} has no example inputs")
    litert_torch.convert(loaded.module(), sample_kwargs=loaded.example_inputs[1]).export(str(plain))


def quantize(plain: Path, final: Path, way: str, images: Path | None = None) -> None:
    from ai_edge_quantizer import quantizer

    model_quantizer = quantizer.Quantizer(str(plain), _recipe(way))
    ranges = _calibrated(model_quantizer, plain, images) if model_quantizer.need_calibration else None
    model_quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).export_model(str(final))


def _recipe(way: str) -> Any:
    from ai_edge_quantizer import recipe, recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    manager = recipe_manager.RecipeManager()
    if way == "int8_weights":
        return recipe.weight_only_wi8_afp32()
    if way == "int8_dynamic":
        manager.add_dynamic_config(".*", Op.FULLY_CONNECTED, 8)
    elif way in ("int8_ptq", "int8_ptq_linear"):
        convolutions = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D) if way == "int8_ptq" else ()
        for op in (Op.FULLY_CONNECTED, *convolutions):
            manager.add_static_config(".*", op, 8, 8)
    else:
        allowed = "int8_weights, int8_dynamic, int8_ptq, int8_ptq_linear"
        raise ValueError(f"unknown way to quantize {way!r}; known: {allowed}")
    return manager.get_quantization_recipe()


def _calibrated(model_quantizer: Any, plain: Path, images: Path | None) -> Any:
    """The lowest and highest value of each tensor; the quantizer's own default is a moving average of them."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.utils import qsv_utils

    if images is None:
        raise ValueError("this way to quantize needs calibration images")
    samples = np.load(images)
    size = int(Interpreter(str(plain)).get_input_details()[0]["shape"][0])
    runs = np.resize(samples, (-(-len(samples) // size), size, *samples.shape[1:]))  # the first ones again, at the end
    batches = [{INPUT: images} for images in runs]
    watching = calibrator.Calibrator(str(plain), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    watching.calibrate({SIGNATURE: batches}, model_quantizer._recipe_manager)
    return watching.get_model_qsvs()


def main(arguments: list[str]) -> None:
    task, *rest = arguments
    if task == "convert":
        convert(Path(rest[0]), Path(rest[1]))
    else:
        quantize(Path(rest[0]), Path(rest[1]), rest[2], Path(rest[3]) if len(rest) > 3 else None)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - whatever the converter raises is the answer
        reason = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {reason[:REASON_MAX]}")
