"""Which images the closed-form steps look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.plan import Compression, Plan
from vitsearch.core.resolve import Anatomy, Effect, Scores, resolve
from vitsearch.pipeline.calibration import Calibrations
from vitsearch.pipeline.jobs import Calibration

STUDY = Calibration(256, seed=7)


@pytest.fixture
def anatomy(golden) -> Anatomy:
    return Anatomy.from_json(golden("anatomy"))


@pytest.fixture
def whole(golden, anatomy) -> Effect:
    plan = replace(Plan.from_json(golden("plan")), compression=Compression())
    return resolve(plan, anatomy, Scores.from_json(golden("scores")))


@pytest.fixture
def cut(golden) -> Effect:
    return Effect.from_json(golden("effect"))


@pytest.mark.parametrize(
    ("resolution", "norms", "refit"),
    [(28, None, 256), (24, 2048, 256), (56, 512, 128), (280, 256, 128)],
)
def test_larger_images_are_fewer(cut, anatomy, resolution, norms, refit):
    found = Calibrations.of(replace(cut, resolution=resolution), anatomy, 28, STUDY)
    assert found.batch_norms == (Calibration(norms, 7) if norms else None)
    assert found.refit == Calibration(refit, 7)


def test_a_base_as_it_was_trained_is_left_alone(whole, anatomy):
    found = Calibrations.of(whole, anatomy, 28, STUDY)
    assert found == Calibrations(None, None, None)
    assert found.refit_digest() is None


def test_norms_are_settled_for_other_windows_too(whole, anatomy):
    assert Calibrations.of(replace(whole, window_size=4), anatomy, 28, STUDY).batch_norms == Calibration(2048, 7)


def test_networks_that_choose_tokens_start_from_the_images_of_the_study(whole, anatomy):
    chosen = replace(whole, tokens=(50, 26, 26), token_pruning_method="dynamicvit")
    assert Calibrations.of(chosen, anatomy, 28, STUDY).token_predictors == STUDY


def test_other_images_for_them_are_another_training_where_the_refit_has_as_many_as_before(cut, anatomy):
    large = replace(cut, resolution=280, token_pruning_method="dynamicvit")
    digests = {Calibrations.of(large, anatomy, 28, Calibration(n, 7)).refit_digest() for n in (256, 512)}
    assert len(digests) == 2


def test_settled_norms_are_another_training(cut, anatomy):
    as_trained, settled = (Calibrations.of(cut, anatomy, resolution, STUDY) for resolution in (28, 20))
    assert as_trained.refit == settled.refit
    assert as_trained.refit_digest() != settled.refit_digest()


def test_a_study_of_few_images_fits_on_those(cut, anatomy):
    few = Calibration(16, 0)
    assert Calibrations.of(replace(cut, resolution=224), anatomy, 28, few).refit == few


def test_other_images_are_another_training(cut, anatomy):
    more = replace(STUDY, images=512)
    digests = {Calibrations.of(cut, anatomy, 28, images).refit_digest() for images in (STUDY, more)}
    assert len(digests) == 2


def test_sparse_weights_are_another_training_of_a_model_of_which_nothing_is_cut_too(whole, cut, anatomy):
    for effect in (whole, cut):
        plain, sparse = (
            Calibrations.of(replace(effect, weight_sparsity=kind), anatomy, 28, STUDY) for kind in ("none", "2:4")
        )
        assert (plain.sparsity, sparse.sparsity) == (None, Calibration(2048, 7))
        assert plain.refit_digest() != sparse.refit_digest()
