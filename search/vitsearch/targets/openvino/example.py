"""How a model for OpenVINO is run without vitsearch: in Python, and by its own tool."""

from __future__ import annotations

import json

from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample, options, pinned, shape, threads
from vitsearch.models.onnx_format import INPUT
from vitsearch_agent.runtimes import openvino_runtime

BENCHMARK_APP = "benchmark_app.json"
"""The file of the options that OpenVINO's tool has no flag for."""
_FLAGS = {
    "NUM_STREAMS": "-nstreams",
    "INFERENCE_NUM_THREADS": "-nthreads",
    "INFERENCE_PRECISION_HINT": "-infer_precision",
}


class OpenVinoExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample:
        """A model with an open batch gets that of the measurement before it is compiled, as there: the graph of an open
        one takes 1.3 times the CPU time, and in bf16 it gives other logits."""
        chosen = options(model)
        properties = openvino_runtime.properties(chosen, threads(model))
        listed = ", ".join(f'"{key}": {_quoted(value)}' for key, value in sorted(properties.items()))
        shaped = "" if model.deployment.batch else f"MODEL.reshape({list(shape(model))})\n"
        opened = (
            f"OPTIONS = {{{listed}}}\n"
            "CORE = openvino.Core()\n"
            'MODEL = CORE.read_model(os.path.join(HERE, "model.xml"))\n'
            f"{shaped}"
            f'MODEL = CORE.compile_model(MODEL, "{chosen["device"]}", OPTIONS)'
        )
        return PythonExample("import openvino", opened, "MODEL([images])[0][0]", (pinned("openvino", model),))

    def tool(self, model: MeasuredModel) -> tuple[str, ...]:
        """Without `-ip` it would change the input of a model for three channels to bytes."""
        chosen = options(model)
        properties = openvino_runtime.properties(chosen, threads(model))
        run = ["-shape", f"{INPUT}[{','.join(map(str, shape(model)))}]", "-ip", "f32", "-api", "sync", "-t", "10"]
        run += ["-hint", chosen["hint"]]
        for name, flag in _FLAGS.items():
            run += [flag, str(properties[name])] if name in properties else []
        run += ["-load_config", BENCHMARK_APP] if self.files(model) else []
        return ("benchmark_app", "-m", "model.xml", "-d", chosen["device"], *run)

    def files(self, model: MeasuredModel) -> dict[str, bytes]:
        """The options that the tool has no flag for."""
        chosen = options(model)
        properties = openvino_runtime.properties(chosen, threads(model))
        further = {name: value for name, value in properties.items() if name not in (*_FLAGS, "PERFORMANCE_HINT")}
        return {BENCHMARK_APP: (json.dumps({chosen["device"]: further}) + "\n").encode()} if further else {}


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
