"""`vitsearch-agent install`: the machine's own service manager keeps the agent running, over boots and deaths."""
