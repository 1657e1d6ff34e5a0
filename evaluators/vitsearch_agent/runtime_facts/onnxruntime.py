"""onnxruntime."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts

RUNTIME = RuntimeFacts(
    place=0,
    runtime="vitsearch_agent.runtimes.ort:OrtRuntime",
    libraries=("onnxruntime",),
    package="onnxruntime",
)
FORMATS = (
    Format(
        "onnx",
        ("model.onnx",),
        inspect="vitsearch_agent.artifacts.onnx_file:inspect",
        inputs="vitsearch_agent.artifacts.onnx_file:declared_inputs",
        references="vitsearch_agent.runtimes.reference_models:write",
    ),
)
