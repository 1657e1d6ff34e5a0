"""`vitsearch-agent install`: the machine's service manager runs the agent and restarts it after a crash."""
