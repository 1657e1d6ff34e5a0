from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import TRAINED, default_provider
from vitsearch.export import EXPORTERS, ExportedFile, ExportTask, deploy

IMAGES = torch.randn((4, 1, 28, 28), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def base():
    """base(name) -> (a base as it ships, its MACs by torch's counter); each is made once."""
    made = {}

    def get(name: str) -> tuple[torch.nn.Module, int]:
        if name not in made:
            family = backbones.find(name)
            model = family.build(ModelSpec(name, "builtin", 28, 10, 1)).model.eval()
            ships = deploy.deployed(model, family, tuple(IMAGES.shape))
            made[name] = ships, round(macs.count(ships, IMAGES[:1])[0] * 1e6)
        return made[name]

    return get


@pytest.fixture
def exported(base, tmp_path) -> Callable[..., tuple[ExportedFile, Deployment]]:
    """exported(base, runtime, precision, batch) -> its file and the deployment that it is made for."""

    def make(name, runtime, precision, batch=1):
        model, _ = base(name)
        deployment = Deployment("local", runtime, default_provider(runtime), precision, batch)
        task = ExportTask(backbones.find(name).family, deployment, IMAGES.numpy())
        if precision in TRAINED:
            model = copy.deepcopy(model)
            fake_quant.prepare(model, [IMAGES])
        return EXPORTERS.get(runtime)().export(model, task, tmp_path), deployment

    return make
