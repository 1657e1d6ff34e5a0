"""Workers that train nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.errors import StageError
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.stages import BaseJob, DataJob, Source, Workspace
from vitsearch.storage.files import FileStore
from vitsearch.testing.fakes import FakeRunner

WORKSPACE = Workspace({}, FileStore(Path("artifacts")), FileStore(Path("scratch")), Path("cache"))
RECIPE = Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)


def test_a_training_is_refused_with_what_makes_the_weights_again():
    job = BaseJob(WORKSPACE, Source("fake_vit", "builtin", ImageSize.square(28), FASHION_MNIST), RECIPE)
    with pytest.raises(StageError) as raised:
        asyncio.run(UntrainedRunner(FakeRunner()).run(job))
    assert str(raised.value) == (
        "training a base failed (not_trained): the weights are gone, and nothing is trained here; 'vitsearch run' "
        "makes them again"
    )


def test_other_stages_are_passed_on():
    runner = FakeRunner()
    asyncio.run(UntrainedRunner(runner).run(DataJob(WORKSPACE)))
    assert runner.runs.total() == 1
