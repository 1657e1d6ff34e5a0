"""The libraries and tools that the built-in runtimes need.

The table is separate from the runtimes, so that an idle agent can look for these without importing a runtime.
"""

from typing import Dict, NamedTuple, Tuple


class Needs(NamedTuple):
    """See `Runtime.libraries` and `Runtime.tools`."""

    libraries: Tuple[str, ...] = ()
    tools: Tuple[str, ...] = ()


NEEDS: Dict[str, Needs] = {
    "onnxruntime": Needs(libraries=("onnxruntime",)),
    "openvino": Needs(libraries=("openvino",)),
    "litert": Needs(libraries=("ai_edge_litert", "tflite_runtime")),
    "executorch": Needs(libraries=("executorch",)),
    "trtexec": Needs(tools=("trtexec", "/usr/src/tensorrt/bin/trtexec")),
    "benchmark_model": Needs(tools=("benchmark_model",)),
    "coreml": Needs(libraries=("coremltools",)),
    "noop": Needs(),
}
