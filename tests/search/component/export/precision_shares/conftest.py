from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import TRAINED, default_provider
from vitsearch.export import EXPORTERS, ExportedFile, ExportTask, deploy

SAVED = {
    # Only the class token of 50 goes through the projection and the MLP of the last block.
    "vit_fmnist_p4": 49 * (192 * 192 + 2 * 192 * 768),
    # The 16 heads multiply 4 tokens with each other: 2 x 4 x 4 x 16, where timm's form has 2 x 4 x 16 x 17.
    "efficientvit_fmnist": 16 * (2 * 4 * 16 * 17 - 2 * 4 * 4 * 16),
}
"""MACs that torch counts and the file of a base does not compute."""
IMAGES = torch.randn((4, 1, 28, 28), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def base():
    """base(name) -> (a base as it ships, its MACs by torch's counter); each is made once."""
    by_name = {}

    def get(name: str) -> tuple[torch.nn.Module, int]:
        if name not in by_name:
            family = backbones.find(name)
            model = family.build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
            ships = deploy.deployed(model, family, tuple(IMAGES.shape))
            by_name[name] = ships, round(macs.count(ships, IMAGES[:1])[0] * 1e6)
        return by_name[name]

    return get


@pytest.fixture
def in_file(base) -> Callable[[str], int]:
    """in_file(name) -> the MACs of the file of a base: what torch counts, less what the export saves."""
    return lambda name: base(name)[1] - SAVED.get(name, 0)


@pytest.fixture
def exported(base, tmp_path) -> Callable[..., tuple[ExportedFile, Deployment]]:
    """exported(base, runtime, precision, batch, ops) -> its file and the deployment that it is made for."""

    def make(name, runtime, precision, batch=1, ops=None):
        model, _ = base(name)
        deployment = Deployment("local", runtime, default_provider(runtime), precision, batch, ops)
        task = ExportTask(backbones.find(name).family, deployment, IMAGES.numpy())
        if precision in TRAINED:
            model = copy.deepcopy(model)
            fake_quant.prepare(model, [IMAGES])
        return EXPORTERS.get(runtime)().export(model, task, tmp_path), deployment

    return make
