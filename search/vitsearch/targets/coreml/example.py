"""How a Core ML program is run without vitsearch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample
from vitsearch.models.onnx_format import INPUT
from vitsearch_agent.artifacts.coreml_file import write_package

_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ane": "CPU_AND_NE"}


class CoreMlExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample:
        unit = _UNITS[str(model.job.options["compute_units"])]
        opened = (
            'PACKAGE = os.path.join(HERE, "model.mlpackage")\n'
            f"MODEL = coremltools.models.MLModel(PACKAGE, compute_units=coremltools.ComputeUnit.{unit})"
        )
        run = f'MODEL.predict({{"{INPUT}": images}})["{model.task.output}"][0]'
        return PythonExample("import coremltools", opened, run, ("coremltools",))

    def files(self, model: MeasuredModel) -> dict[str, bytes]:
        """The program in the form that Xcode and `example.py` open."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "model.mlpackage"
            write_package(str(model.path), str(model.path.with_suffix(".bin")), str(folder))
            inside = [path for path in folder.rglob("*") if path.is_file()]
            return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in inside}
