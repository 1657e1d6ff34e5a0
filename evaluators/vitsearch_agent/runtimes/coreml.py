"""Core ML, on macOS. Only this file imports coremltools, and only inside functions."""

import os
import shutil
import sys
import tempfile
import warnings
from typing import Any, Dict, List, Mapping, Optional

from vitsearch_agent.artifacts import inspect, model_files
from vitsearch_agent.artifacts.coreml_file import write_package
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Input, random_feeds
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import Shapes

_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ane": "CPU_AND_NE"}
"""Option -> coremltools' name."""


class CoreMlSession(Session):
    def __init__(self, model: Any, names: List[str], arrays: List[Any], sizes: RunShapes, folder: str) -> None:
        self.batch, self.shapes = sizes
        self._model, self._names, self._folder = model, names, folder
        self._feeds = dict(zip(names, arrays))

    def run(self) -> None:
        self._predict(self._feeds, "Core ML refuses to run the model")

    def infer(self, images: Any) -> Any:
        (wanted,) = (array.shape for array in list(self._feeds.values())[:1])
        if images.shape != wanted:
            actual, sizes = ([int(size) for size in shape] for shape in (images.shape, wanted))
            raise MeasurementFailed("incompatible_artifact", f"the model takes images {sizes}, but these are {actual}")
        outputs = self._predict(dict(self._feeds, **{self._names[0]: images}), "the model does not accept the images")
        return next(iter(outputs.values()))

    def close(self) -> None:
        self._model = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _predict(self, feeds: Mapping[str, Any], sentence: str) -> Mapping[str, Any]:
        try:
            outputs: Mapping[str, Any] = self._model.predict(feeds)
        except Exception as error:  # coremltools has no class of its own for what Core ML says
            raise refused(error, sentence) from error
        return outputs


class CoreMlRuntime(Runtime):
    """Runs Core ML programs with `coremltools`, on macOS only.

    Option `compute_units`: where Core ML may compute: `all` (its own choice), `cpu`, `cpu_and_gpu`, `cpu_and_ane` (the
    Neural Engine, which computes in fp16 only: a program in fp32 then runs on the CPU). Core ML decides for each
    operator and chooses the number of threads itself.
    """

    name = "coreml"
    libraries = RUNTIMES["coreml"].libraries
    gives_outputs = True
    options = {"compute_units": tuple(_UNITS)}

    def available(self) -> Availability:
        reason = _elsewhere()
        if reason is not None:  # before the import: coremltools also exists on Linux, where it only converts
            return Availability(False, reason, None, ())
        try:
            import coremltools
        except ImportError as error:
            return Availability(False, f"coremltools cannot be imported: {error}", None, ())
        version = str(coremltools.__version__)
        return Availability(True, None, version, tuple(_UNITS), ("coreml",), precisions=("fp32", "fp16", "int8"))

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        files = model_files(path)
        if "model.mlmodel" not in files:
            raise MeasurementFailed("incompatible_artifact", "Core ML loads .mlmodel files with their .bin files")
        inspect("coreml", files)
        reason = _elsewhere()
        if reason is not None:
            raise MeasurementFailed("runtime_unavailable", reason)
        folder = tempfile.mkdtemp()
        try:
            package = os.path.join(folder, "model.mlpackage")
            write_package(files["model.mlmodel"], files["model.bin"], package)
            model = _opened(package, _UNITS[options["compute_units"]])
            inputs = [_input(description) for description in model.get_spec().description.input]
            arrays, sizes = random_feeds(inputs, batch, shapes)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return CoreMlSession(model, [description.name for description in inputs], arrays, sizes, folder)


def _opened(package: str, units: str) -> Any:
    import coremltools

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # coremltools warns when Core ML cannot compile a model
        try:
            return coremltools.models.MLModel(package, compute_units=getattr(coremltools.ComputeUnit, units))
        except (RuntimeError, RuntimeWarning, ValueError, TypeError) as error:
            raise refused(error, f"coremltools {coremltools.__version__} rejects the model") from error


def _elsewhere() -> Optional[str]:
    """Return why nothing can be predicted on this system; None on macOS."""
    return None if sys.platform == "darwin" else f"Core ML predicts on macOS only, and this is {sys.platform}"


_TYPES: Dict[int, str] = {65568: "float32", 65552: "float16", 65600: "float64", 131104: "int32"}
"""ArrayDataType of FeatureTypes.proto -> numpy's name."""


def _input(described: Any) -> Input:
    array = described.type.multiArrayType
    return Input(str(described.name), _TYPES.get(array.dataType, f"ArrayDataType {array.dataType}"), list(array.shape))
