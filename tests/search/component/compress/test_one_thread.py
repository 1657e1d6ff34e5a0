"""What is fitted in closed form does not depend on the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info

from support import PYTHON_PATH
from vitsearch.compress.one_thread import one_thread

FITTING = """
import hashlib, sys
import numpy as np, torch
from torch import nn
from vitsearch.compress import least_squares
from vitsearch.compress import sparsity
draw = np.random.default_rng(0)
rows, error = (torch.from_numpy(draw.standard_normal((8192, size))).float() for size in (192, 50))
layer = nn.Linear(192, 50)
layer.weight.data, layer.bias.data = error[:192].T.clone(), error[0].clone()
sparsity._fit(layer, sparsity.Choice(0.5, False), rows)
weights = least_squares.fit(rows, error, 1e-2, True)[0].tobytes() + layer.weight.detach().numpy().tobytes()
print(hashlib.sha256(weights).hexdigest())
"""
REFITTING = """
import copy, hashlib
import torch
from vitsearch import backbones
from vitsearch.compress import batch_norms, prune, refit, scores, sequential
from vitsearch.compress import sparsity
from vitsearch.core.image_size import ImageSize
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
images, size = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)), ImageSize.square(28)
for name in ("vit_fmnist_p4", "efficientvit_fmnist"):
    backbone, spec = backbones.find(name), backbones.ModelSpec(name, "builtin", size, 10, 1)
    base = backbone.build(spec).model.eval()
    statistics = scores.collect(base, backbone, images, torch.arange(64) % 10)
    blocks = backbone.block_structure(base, spec).blocks
    kept = (ResolvedBlock(tuple(range(block.heads)), tuple(range(0, block.ffn_width, 2))) for block in blocks)
    resolved = ResolvedPlan(name, size, None, tuple(kept))
    model = copy.deepcopy(base)
    prune.apply(model, backbone, resolved, images[:1])
    refit.refit(model, base, backbone, resolved, statistics)
    sequential.fit(model, backbone, sequential.targets(base, backbone, images), images)
    batch_norms.recalibrate(model, [images])
    sparsity.fit(model, "50%", images[:32])
    state = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    print(name, hashlib.sha256(state).hexdigest())
"""


@pytest.mark.long
@pytest.mark.parametrize("threads", ["2", "8"])
@pytest.mark.parametrize("script", [FITTING, REFITTING], ids=["fit", "refit"])
def test_weights_do_not_depend_on_the_number_of_threads(script, threads):
    running = []
    for number in ("1", threads):
        environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), number)
        command = [sys.executable, "-c", script]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    single, several = (each.communicate()[0].split() for each in running)
    assert [each.returncode for each in running] == [0, 0]
    assert single == several


def test_the_number_of_threads_is_afterwards_what_it_was():
    with one_thread():
        pass  # the libraries are loaded by now
    before = torch.get_num_threads(), threadpool_info()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), threadpool_info()) == before
