"""Operators that make a model cheaper: importance, cutting, closed-form refit, quantization, counting."""
