"""The actor of a trial of Ray Tune, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.space import load
from vitsearch.tune.actor import RungTrainable

SMALL = Path(SPACE_FILES, "small.yaml")


@pytest.fixture
def actor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = load(SMALL).space
    monkeypatch.setattr("ray.get_gpu_ids", list)
    kind = type("Trial", (RungTrainable,), {"space": space, "folder": str(tmp_path)})
    instance = object.__new__(kind)
    instance.setup({"backbone": "vit_fmnist_p4"})  # no plan: all other knobs are missing
    yield instance
    instance.cleanup()


def test_a_config_that_is_no_plan_ends_and_can_be_saved(actor, tmp_path):
    result = actor.step()
    assert (result["done"], result["outcome"]) == (True, "invalid")
    assert result["reason"]
    actor.save_checkpoint(str(tmp_path))
    actor.load_checkpoint(str(tmp_path))
