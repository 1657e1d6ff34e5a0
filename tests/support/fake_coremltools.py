"""Stands for coremltools on macOS: it reads a package as Core ML does and predicts the sum of each image, four times.

The classes have the names and the behaviour of coremltools 9 (`models/model.py`) as far as the runtime uses them.
"""

import json
import os
import types
import warnings
from enum import Enum

import numpy

FLOAT32 = 65568


class ComputeUnit(Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


class MLModel:
    refuses = ""
    """What Core ML says when it compiles a model; coremltools makes a warning of it."""

    def __init__(self, path, compute_units=ComputeUnit.ALL):
        self.path, self.compute_units = path, compute_units
        with open(os.path.join(path, "Manifest.json")) as stream:
            manifest = json.load(stream)
        items = {item["name"]: item["path"] for item in manifest["itemInfoEntries"].values()}
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        self.model_path = os.path.join(path, "Data", root)
        self.weights_path = os.path.join(path, "Data", items["weights"], "weight.bin")
        assert os.path.isfile(self.model_path)
        assert os.path.isfile(self.weights_path)
        if self.refuses:
            warnings.warn("You will not be able to run predict(): " + self.refuses, RuntimeWarning, stacklevel=2)

    def get_spec(self):
        array = types.SimpleNamespace(dataType=FLOAT32, shape=[1, 8])
        image = types.SimpleNamespace(name="images", type=types.SimpleNamespace(multiArrayType=array))
        return types.SimpleNamespace(description=types.SimpleNamespace(input=[image]))

    def predict(self, feeds):
        (images,) = feeds.values()
        if not numpy.isfinite(images).all():
            raise Exception("Error computing NN outputs")  # as coremltools does
        return {"logits": images.sum(1, keepdims=True).repeat(4, 1)}


def module():
    """Return the module to put into `sys.modules`."""
    coremltools = types.ModuleType("coremltools")
    coremltools.__version__ = "9.0"
    coremltools.ComputeUnit, coremltools.models = ComputeUnit, types.SimpleNamespace(MLModel=MLModel)
    return coremltools
