"""Divergence between the logits of two models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitsearch.tasks.classification.divergence import divergence, kl_divergences

logit_rows = arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32))


@given(base=logit_rows, other=logit_rows, shift=st.floats(-50, 50))
def test_divergence_agrees_with_torch(base, other, shift):
    values = kl_divergences(base, other)
    assert np.isfinite(values).all()
    assert (values >= -1e-9).all()
    assert (kl_divergences(base, base) == 0).all()
    assert kl_divergences(base, other + np.float32(shift)) == pytest.approx(values, abs=1e-3)
    p, q = (torch.log_softmax(torch.tensor(v, dtype=torch.float64), 1) for v in (base, other))
    expected = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(1).numpy()
    assert values == pytest.approx(expected, abs=1e-9)


def test_the_loss_of_a_student_is_the_mean_of_its_divergences_at_a_temperature():
    base, other = (torch.tensor(np.random.default_rng(seed).normal(size=(8, 10))) for seed in (0, 1))
    at_two = kl_divergences(base.numpy() / 2, other.numpy() / 2).mean()
    assert divergence(other, base, 2.0).item() == pytest.approx(4 * at_two, rel=1e-6)
