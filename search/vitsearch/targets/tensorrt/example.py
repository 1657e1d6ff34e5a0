"""How a model for TensorRT is run without vitsearch: its engine is built by the tool's command line."""

from __future__ import annotations

from vitsearch.export.bundle_example import BundleExample, MeasuredModel, shape
from vitsearch.models.onnx_format import INPUT
from vitsearch_agent.artifacts import calibration
from vitsearch_agent.runtimes.tools import trtexec_flags


class TensorRtExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def why_no_python(self, model: MeasuredModel) -> str:
        return "The engine of TensorRT is built on the device, with the command below."

    def tool(self, model: MeasuredModel) -> tuple[str, ...]:
        """The flags that build the engine as the device built it, and run it."""
        options = model.job.options
        flags = trtexec_flags.build_flags(
            _version(model), str(options["precision"]), str(options.get("sparsity", "disable"))
        )
        kept = [flag for flag in flags if flag not in ("--buildOnly", "--skipInference")]
        if self.files(model):
            kept.append(f"--calib={trtexec_flags.CALIBRATION_CACHE}")
        if not model.deployment.batch:
            kept.append(f"--shapes={INPUT}:{'x'.join(map(str, shape(model)))}")
        return ("trtexec", "--onnx=model.onnx", *kept)

    def files(self, model: MeasuredModel) -> dict[str, bytes]:
        """The calibration cache that trtexec reads for the model, where it has one."""
        if model.job.options["precision"] != "int8":
            return {}
        scales = calibration(str(model.path))
        if scales is None:
            return {}
        return {trtexec_flags.CALIBRATION_CACHE: trtexec_flags.calibration_cache(_version(model), scales).encode()}


def _version(model: MeasuredModel) -> trtexec_flags.Version:
    """The version that measured the model."""
    version = tuple(int(part) for part in model.confirmation.runtime_version.split(".")[:3])
    padded = (*version, 0, 0)[:3]
    return padded[0], padded[1], padded[2]
