"""Parameters of tests that `make test` leaves to `make test-long`."""

import pytest


def long(*values):
    """Mark parameters: `parametrize("name", ["vit", *long("levit", "swin")])`; a tuple is one set of arguments."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.long) for value in values
    ]
