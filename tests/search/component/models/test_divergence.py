"""Divergence between the outputs of two models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitsearch.tasks.classification.divergence import kl_divergence

logit_rows = arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32))


@given(base=logit_rows, other=logit_rows, shift=st.floats(-50, 50))
def test_divergence_agrees_with_torch(base, other, shift):
    value = kl_divergence(base, other)
    assert math.isfinite(value)
    assert value >= 0
    assert kl_divergence(base, base) == 0
    assert kl_divergence(base, other + np.float32(shift)) == pytest.approx(value, abs=1e-3)
    p, q = (torch.log_softmax(torch.tensor(v, dtype=torch.float64), 1) for v in (base, other))
    expected = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True).item()
    assert value == pytest.approx(expected, abs=1e-9)
