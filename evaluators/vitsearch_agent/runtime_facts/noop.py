"""A runtime for tests."""

from vitsearch_agent.runtime_facts import RuntimeFacts

RUNTIME = RuntimeFacts(
    place=70,
    runtime="vitsearch_agent.runtimes.noop:NoopRuntime",
    runs_models=False,
)
