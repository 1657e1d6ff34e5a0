"""TensorRT's own program."""

from vitsearch_agent.runtime_facts import RuntimeFacts

RUNTIME = RuntimeFacts(
    place=40,
    runtime="vitsearch_agent.runtimes.tools.trtexec:TrtexecRuntime",
    tools=("trtexec", "/usr/src/tensorrt/bin/trtexec"),
)
