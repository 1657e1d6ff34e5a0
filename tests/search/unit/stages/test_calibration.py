"""Which images the closed-form steps look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Plan
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.stages.calibration import Calibration, Calibrations

NATIVE = ImageSize.square(28)
STUDY, MORE = Calibration(256, seed=7), Calibration(512, seed=7)


@pytest.fixture
def block_structure(golden) -> BlockStructure:
    return BlockStructure.from_json(golden("block_structure"))


@pytest.fixture
def whole(golden, block_structure) -> ResolvedPlan:
    plan = replace(Plan.from_json(golden("plan")), compression=Compression())
    return resolve(plan, block_structure, Scores.from_json(golden("scores")))


@pytest.fixture
def cut(golden) -> ResolvedPlan:
    return ResolvedPlan.from_json(golden("resolved_plan"))


@pytest.mark.parametrize(
    ("resolution", "norms", "refit"),
    [(28, None, 256), (24, 2048, 256), (56, 512, 128), (280, 256, 128), ((28, 112), 512, 128)],
)
def test_larger_images_are_fewer(cut, block_structure, resolution, norms, refit):
    sized = replace(cut, resolution=ImageSize.of(resolution))
    calibrations = Calibrations.of(sized, block_structure, NATIVE, STUDY)
    assert calibrations.batch_norms == (Calibration(norms, 7) if norms else None)
    assert calibrations.refit == Calibration(refit, 7)


def test_a_base_as_it_was_trained_is_left_alone(whole, block_structure):
    calibrations = Calibrations.of(whole, block_structure, NATIVE, STUDY)
    assert calibrations == Calibrations(None, None, None)
    assert calibrations.digest(STUDY) is None


def test_norms_are_settled_for_other_windows_too(whole, block_structure):
    assert Calibrations.of(replace(whole, window_size=4), block_structure, NATIVE, STUDY).batch_norms == Calibration(
        2048, 7
    )


def test_networks_that_choose_tokens_start_from_the_images_of_the_study(whole, block_structure):
    chosen = replace(whole, tokens=(50, 26, 26), token_pruning_method="dynamicvit")
    assert Calibrations.of(chosen, block_structure, NATIVE, STUDY).token_predictors == STUDY


def test_other_images_for_them_are_another_training_where_the_refit_has_as_many_as_before(cut, block_structure):
    large = replace(cut, resolution=ImageSize.square(280), token_pruning_method="dynamicvit")
    digests = {Calibrations.of(large, block_structure, NATIVE, images).digest(images) for images in (STUDY, MORE)}
    assert len(digests) == 2


def test_settled_norms_are_another_training(cut, block_structure):
    as_trained, settled = (
        Calibrations.of(cut, block_structure, base, STUDY) for base in (NATIVE, ImageSize.square(20))
    )
    assert as_trained.refit == settled.refit
    assert as_trained.digest(STUDY) != settled.digest(STUDY)


def test_a_study_of_few_images_fits_on_those(cut, block_structure):
    few = Calibration(16, 0)
    assert Calibrations.of(replace(cut, resolution=ImageSize.square(224)), block_structure, NATIVE, few).refit == few


def test_other_images_are_another_training(cut, block_structure):
    digests = {Calibrations.of(cut, block_structure, NATIVE, images).digest(images) for images in (STUDY, MORE)}
    assert len(digests) == 2


def test_settled_norms_of_an_uncut_model_are_another_training(whole, block_structure):
    digests = {
        Calibrations.of(whole, block_structure, base, STUDY).digest(STUDY) for base in (NATIVE, ImageSize.square(24))
    }
    assert len(digests) == 2


def test_more_statistics_are_another_training_where_the_sequential_refit_sees_as_many_as_before(cut, block_structure):
    large = replace(cut, resolution=ImageSize.square(280))
    digests = {Calibrations.of(large, block_structure, NATIVE, images).digest(images) for images in (STUDY, MORE)}
    assert len(digests) == 2


def test_sparse_weights_are_another_training_of_a_model_of_which_nothing_is_cut_too(whole, cut, block_structure):
    for resolved in (whole, cut):
        plain, sparse = (
            Calibrations.of(replace(resolved, weight_sparsity=kind), block_structure, NATIVE, STUDY)
            for kind in ("none", "2:4")
        )
        assert (plain.sparsity, sparse.sparsity) == (None, Calibration(2048, 7))
        assert plain.digest(STUDY) != sparse.digest(STUDY)
