"""Runtimes that are programs: trtexec and benchmark_model."""
