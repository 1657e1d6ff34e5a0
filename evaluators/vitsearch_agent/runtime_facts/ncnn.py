"""ncnn."""

from vitsearch_agent.runtime_facts import Format, RuntimeFacts

RUNTIME = RuntimeFacts(
    place=35,
    runtime="vitsearch_agent.runtimes.ncnn:NcnnRuntime",
    libraries=("ncnn",),
    package="ncnn",
)
FORMATS = (
    Format(
        "ncnn",
        ("model.param", "model.bin"),
        inspect="vitsearch_agent.runtimes.ncnn:inspect",
        text_marks=(b"7767517\n",),
    ),
)
