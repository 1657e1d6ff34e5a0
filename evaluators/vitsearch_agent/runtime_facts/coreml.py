"""Core ML."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts, System

RUNTIME = RuntimeFacts(
    place=60,
    runtime="vitsearch_agent.runtimes.coreml:CoreMlRuntime",
    libraries=("coremltools",),
    package="coremltools",
    system=System("darwin", "Core ML runs on Apple's systems only"),
)
FORMATS = (
    Format(
        "coreml",
        ("model.mlmodel", "model.bin"),
        inspect="vitsearch_agent.artifacts.coreml_file:inspect",
    ),
)
