import torch

from vitsearch.testing.outliers import add_outliers


def test_outliers_do_not_change_the_outputs(base, logits):
    plain, hard = base.model(), base.model()
    add_outliers(hard, 60.0, 4)
    inputs = base.held_out[0][:16]
    torch.testing.assert_close(logits(hard, inputs), logits(plain, inputs), atol=1e-4, rtol=1e-4)
    for before, after in zip(plain.blocks, hard.blocks, strict=True):
        for name in ("norm1", "norm2"):
            factors = getattr(after, name).weight / getattr(before, name).weight
            assert sorted(factors.round().tolist()) == [1.0] * 188 + [60.0] * 4
