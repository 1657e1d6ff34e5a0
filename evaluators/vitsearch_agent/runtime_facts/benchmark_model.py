"""LiteRT's own program."""

from vitsearch_agent.runtime_facts import RuntimeFacts

RUNTIME = RuntimeFacts(
    place=50,
    runtime="vitsearch_agent.runtimes.tools.benchmark_model:BenchmarkModelRuntime",
    tools=("benchmark_model",),
)
