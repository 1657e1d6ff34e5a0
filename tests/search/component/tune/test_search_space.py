"""The knobs of a real space file in the hands of Tune itself, without a trial."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vitsearch.tune
from support import SPACE_FILES
from vitsearch.api import load_space
from vitsearch.errors import ResourceError, SpaceError
from vitsearch.tune import define_by_run, search_space, trainable
from vitsearch.tune.knobs import ConfigSpace

INSTALL = "pip install 'vitsearch[tune]'"
SMALL = Path(SPACE_FILES, "small.yaml")
TWO = ("space.backbone=[vit_fmnist_p4, efficientvit_fmnist]", "space.quantization=[fp32, int8_dynamic, int8_ptq]")


@pytest.fixture
def tune():
    return pytest.importorskip("ray.tune", reason=INSTALL, exc_type=ImportError)


@pytest.fixture
def space():
    return load_space(SMALL, *TWO)


@pytest.mark.parametrize("within", [True, False], ids=["spec", "config"])
def test_configs_that_tune_draws_are_plans(tune, space, within):
    """Ray resolves a config within the specification of an experiment, or by itself."""
    from ray.tune.search.variant_generator import generate_variants

    knobs, backbones = ConfigSpace(space), set()
    for _ in range(20):
        wanted = search_space(space)
        (_, spec), *_ = generate_variants({"config": wanted} if within else wanted)
        backbones.add(knobs.plan(spec["config"] if within else spec).backbone)
    assert backbones == {"vit_fmnist_p4", "efficientvit_fmnist"}


def test_a_grid_of_one_knob_leaves_the_others_to_chance(tune, space):
    from ray.tune.search.variant_generator import generate_variants

    grid = search_space(space) | {"backbone": tune.grid_search(["vit_fmnist_p4", "efficientvit_fmnist"])}
    configs = [spec for _, spec in generate_variants(grid)]
    plans = [ConfigSpace(space).plan(config) for config in configs]
    assert [plan.backbone for plan in plans] == ["vit_fmnist_p4", "efficientvit_fmnist"]
    of_the_other = [value for name, value in configs[0].items() if name.endswith("@efficientvit_fmnist")]
    assert set(of_the_other) == {None}


def test_optuna_search_asks_only_for_the_knobs_of_a_plan(tune, space, tmp_path):
    from ray.tune.search.optuna import OptunaSearch

    search = OptunaSearch(define_by_run(space), metric=["accuracy", "cpu_ms_p50"], mode=["max", "min"], seed=0)
    knobs = ConfigSpace(space)
    for number in range(12):
        config = search.suggest(str(number))
        assert set(config) == set(knobs._plans.parameters(knobs.plan(config)))
        search.on_trial_complete(str(number), {"accuracy": 0.5, "cpu_ms_p50": float(number)})
    search.save(str(tmp_path / "search.pkl"))  # as Tune does, to restore an experiment
    search.restore(str(tmp_path / "search.pkl"))
    assert search.suggest("last")


def test_a_space_file_with_problems_is_refused_at_once(tune, tmp_path):
    (tmp_path / "wrong.yaml").write_text(SMALL.read_text().replace("resolution:", "resolutoin:"))
    with pytest.raises(SpaceError, match="resolutoin"):
        trainable(tmp_path / "wrong.yaml")


def test_the_names_stay_functions_when_they_were_used(tune, space):
    """A module of the same name would take their place when it is imported."""
    for make in (trainable, search_space, define_by_run):
        make(space)
        assert getattr(vitsearch.tune, make.__name__) is make


@pytest.mark.long
def test_a_config_that_is_no_plan_ends_its_trial_with_the_reason(tune, space, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.get_gpu_ids", list)  # there is no worker of Ray here
    trial = trainable(space)({"backbone": "resnet50"})
    result = trial.train()
    assert (result["done"], result["outcome"]) == (True, "invalid")
    assert "backbone 'resnet50' is not in the space" in result["reason"]
    assert list(tmp_path.iterdir()) == []
    trial.stop()


def test_a_checkpoint_of_another_plan_does_not_count(tune, space, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.get_gpu_ids", list)  # there is no worker of Ray here
    kind, config = trainable(space), dict.fromkeys(ConfigSpace(space).choices)
    own, other = (
        ConfigSpace(space)._plans.parameters(ConfigSpace(space)._plans.unpruned(model))
        for model in list(ConfigSpace(space)._plans.unpruned_models())[:2]
    )
    first, same, changed = (kind(config | chosen) for chosen in (own, own, other))
    first._steps = 2
    first.save_checkpoint(str(tmp_path))
    for trial in (same, changed):
        trial.load_checkpoint(str(tmp_path))
    assert (same._steps, changed._steps) == (2, 0)


def test_without_tune_the_message_names_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    monkeypatch.delattr("ray.tune", raising=False)
    for make in (trainable, search_space, define_by_run):
        with pytest.raises(ResourceError, match=r"pip install 'vitsearch\[tune\]'"):
            make(SMALL)
