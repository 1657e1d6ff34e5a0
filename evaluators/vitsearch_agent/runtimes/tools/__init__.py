"""Runtimes that are command-line programs: trtexec and benchmark_model."""
