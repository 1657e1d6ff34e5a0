"""LiteRT's interpreter."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts

RUNTIME = RuntimeFacts(
    place=20,
    runtime="vitsearch_agent.runtimes.litert:LiteRtRuntime",
    libraries=("ai_edge_litert", "tflite_runtime"),
    package="ai-edge-litert",
)
FORMATS = (
    Format(
        "tflite",
        ("model.tflite",),
        inspect="vitsearch_agent.artifacts.tflite_file:inspect",
        inputs="vitsearch_agent.artifacts.tflite_file:declared_inputs",
        references="vitsearch_agent.selftest.tflite_models:write",
        mark=(4, b"TFL3"),
    ),
)
