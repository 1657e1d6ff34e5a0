"""OpenVINO."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts

RUNTIME = RuntimeFacts(
    place=10,
    runtime="vitsearch_agent.runtimes.openvino_runtime:OpenVinoRuntime",
    libraries=("openvino",),
    package="openvino",
)
FORMATS = (
    Format(
        "openvino",
        ("model.xml", "model.bin"),
        inspect="vitsearch_agent.artifacts.openvino_file:inspect",
        text_marks=(b"<?xml", b"<net"),
    ),
)
