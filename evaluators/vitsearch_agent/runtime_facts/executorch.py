"""ExecuTorch."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts

RUNTIME = RuntimeFacts(
    place=30,
    runtime="vitsearch_agent.runtimes.executorch:ExecuTorchRuntime",
    libraries=("executorch",),
    package="executorch torch",  # its wheel does not ask for torch, which it imports
)
FORMATS = (
    Format(
        "executorch",
        ("model.pte",),
        inspect="vitsearch_agent.artifacts.executorch_file:inspect",
        mark=(4, b"ET12"),
    ),
)
