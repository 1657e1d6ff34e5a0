"""How a TFLite file is run without vitsearch: in Python, and by its own tool."""

from __future__ import annotations

import re

from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample, pinned, threads
from vitsearch.models.onnx_format import INPUT

TFLITE_RUNTIME = r"2\.([5-9]|1\d)\."
"""Versions of tflite-runtime, which boards with an old Python have; ai-edge-litert has no such releases."""


class LiteRtExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample | None:
        """None for a delegate that Python's interpreter does not have."""
        delegate = model.job.options["delegate"]
        if delegate not in ("xnnpack", "none"):
            return None
        imports, without = "Interpreter", ""
        if delegate == "none":
            imports = "Interpreter, OpResolverType"
            without = ", experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"
        opened = (
            f'MODEL = Interpreter(os.path.join(HERE, "model.tflite"), num_threads={threads(model)}{without})\n'
            f"RUN = MODEL.get_signature_runner()"
        )
        run = f'RUN({INPUT}=images)["{model.task.output}"][0]'
        is_older = re.match(TFLITE_RUNTIME, model.confirmation.runtime_version) is not None
        package = "ai-edge-litert" if is_older else pinned("ai-edge-litert", model, "litert")
        return PythonExample(f"from ai_edge_litert.interpreter import {imports}", opened, run, (package,))

    def tool(self, model: MeasuredModel) -> tuple[str, ...]:
        delegate = model.job.options["delegate"]
        flags = [f"--use_xnnpack={str(delegate == 'xnnpack').lower()}"]
        flags += [f"--use_{delegate}=true"] if delegate in ("gpu", "nnapi") else []
        run = (f"--num_threads={threads(model)}", *flags, "--num_runs=200")
        return ("benchmark_model", "--graph=model.tflite", *run)
