import pytest
import torch
from torch import nn

from vitsearch.compress import batch_norms


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 2, 1)).eval()


def test_statistics_cover_all_batches(model):
    batches = torch.randn(4, 16, 1, 8, 8) * 3 + 1
    batch_norms.recalibrate(model, batches)
    with torch.no_grad():
        outputs = model[0](batches.flatten(0, 1))
    torch.testing.assert_close(model[1].running_mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(model[1].running_var, outputs.var((0, 2, 3)), rtol=0.05, atol=0)


def test_only_the_statistics_change(model):
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" not in name}
    batch_norms.recalibrate(model, torch.randn(2, 16, 1, 8, 8))
    after = model.state_dict()
    del before["1.num_batches_tracked"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model[1].momentum == 0.1
    assert [module.training for module in model] == [False] * 4


def test_batches_are_not_read_for_a_model_without_batch_norms():
    def batches():
        raise AssertionError("read")
        yield

    batch_norms.recalibrate(nn.Linear(1, 1), batches())


def test_norms_without_statistics_do_not_change():
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    batch_norms.recalibrate(norm, [torch.randn(4, 1, 2, 2)])
    assert norm.running_mean is None
