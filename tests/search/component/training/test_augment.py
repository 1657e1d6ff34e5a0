"""Random views of committed images: shape, type, seed, and each augmentation alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation
from vitsearch.data import DataSpec, load
from vitsearch.training.augment import Views

WAYS = [
    Augmentation(flip=1.0),
    Augmentation(crop=0.3),
    Augmentation(randaugment=15),
    Augmentation(mixup=0.8),
    Augmentation(cutmix=1.0),
]


@pytest.fixture(scope="module")
def batch():
    train = load(DataSpec("builtin:fashion-mnist-14k")).train
    return train.images[:16], train.labels[:16]


def drawn(augmentation: Augmentation, batch, seed: int = 0, size: int = 28):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Views(augmentation, ImageSize.of(size), 10).draw(*batch)


@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_random_crops_have_the_shape_of_a_rectangle_and_are_stretched_by_a_third_at_most(size):
    """A disc becomes an ellipse that is no flatter than four by three, but for rounding to pixels."""
    height, width = size
    rows, columns = np.mgrid[: 4 * height, : 4 * width]
    disc = (rows - 2 * height) ** 2 + (columns - 2 * width) ** 2 < 24**2
    images = np.repeat(np.where(disc, 255, 0).astype(np.uint8)[None, ..., None], 64, 0)
    views, _ = drawn(Augmentation(crop=0.6), (images, np.zeros(64, np.int64)), size=size)
    assert views.shape == (64, *size, 1)
    ratios = [(view.any(axis=1).sum(), view.any(axis=0).sum()) for view in views[..., 0] > 127]
    whole = [tall / wide for tall, wide in ratios if tall < height and wide < width]
    assert len(whole) > 20
    assert 0.65 < min(whole) < 1 < max(whole) < 1.55


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", WAYS)
def test_each_augmentation_changes_the_images_and_keeps_shape_and_type(batch, augmentation, channels):
    images = batch[0].repeat(channels, axis=3)
    views, _ = drawn(augmentation, (images, batch[1]))
    assert (views.dtype, views.shape) == (np.uint8, images.shape)
    assert (views != images).any(axis=(1, 2, 3)).mean() > 0.5


@pytest.mark.parametrize("augmentation", WAYS)
def test_views_depend_only_on_the_seed(batch, augmentation):
    (drawn_images, targets), (again, same) = drawn(augmentation, batch), drawn(augmentation, batch)
    assert (drawn_images == again).all()
    assert torch.equal(targets, same)
    everything = Augmentation(0.5, 0.5, 9, 0.8, 1.0)
    assert (drawn(everything, batch)[0] != drawn(everything, batch, seed=1)[0]).any()


def test_a_flip_is_a_mirror_image_with_its_label(batch):
    views, targets = drawn(Augmentation(flip=1.0), batch)
    assert (views == batch[0][:, :, ::-1]).all()
    assert targets.tolist() == batch[1].tolist()


def test_images_of_a_batch_are_changed_independently(batch):
    same = batch[0][:1].repeat(16, axis=0)
    views, _ = drawn(Augmentation(crop=0.3), (same, batch[1]))
    assert len({view.tobytes() for view in views}) > 8


def test_a_crop_has_the_requested_size(batch):
    assert drawn(Augmentation(crop=0.5), batch, size=20)[0].shape == (16, 20, 20, 1)


@settings(max_examples=25)
@given(mixup=st.just(0.0) | st.floats(0.01, 2), cutmix=st.floats(0.01, 2), seed=st.integers(0, 99))
def test_mixed_labels_are_probabilities_of_the_two_labels(mixup, cutmix, seed):
    images = np.full((6, 8, 8, 3), 7, np.uint8)
    _, targets = drawn(Augmentation(mixup=mixup, cutmix=cutmix), (images, np.arange(6)), seed)
    assert targets.shape == (6, 10)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert (targets > 0).sum(1).max() <= 2


def test_mixup_blends_images_and_labels_alike(batch):
    images = np.stack([np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 200, np.uint8)])
    views, targets = drawn(Augmentation(mixup=1.0), (images, np.array([0, 1])))
    np.testing.assert_allclose(views[:, 0, 0, 0], targets[:, 1].numpy() * 200, atol=0.51)


@pytest.mark.parametrize("augmentation", [Augmentation(flip=1.0), Augmentation(crop=0.3), Augmentation(0.5, 0.5)])
def test_masks_are_cropped_and_mirrored_as_their_images_are(augmentation):
    """Images whose pixels are their classes stay so, but for the rounding of a resized image at an edge."""
    masks = (np.arange(28)[None, :, None] // 7 + np.arange(28)[None, None] // 7).repeat(4, 0).astype(np.uint8)
    images, targets = drawn(augmentation, ((masks * 30)[..., None], masks))
    assert targets.shape == (4, 28, 28)
    assert (np.abs(images[..., 0] / 30 - targets.numpy()) < 0.5).mean() > 0.85
    assert not np.array_equal(targets.numpy(), masks)
