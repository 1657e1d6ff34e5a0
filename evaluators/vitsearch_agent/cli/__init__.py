"""The command line `vitsearch-agent`."""
