"""Compress vision transformers for edge devices by measured, multi-objective search."""

__version__ = "0.1.0"
__all__ = ["__version__"]
