import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.window_sizes import clipped, fitting, square
from vitsearch.compress import macs
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError

SWIN, SWINV2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"


sides = st.integers(1, 64)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.sampled_from([clipped, square]))
def test_fitting_windows_divide_every_map(maps, window_on):
    for side in fitting(maps, window_on):
        assert side >= 2
        for rows, columns in maps:
            window = window_on(side, (rows, columns))
            assert (rows % window[0], columns % window[1]) == (0, 0)


@given(st.integers(2, 64))
def test_the_largest_window_is_the_whole_map(size):
    maps = (size, size), (size // 2, size // 2)
    assert max(fitting(maps, clipped)) == max(fitting(maps, square)) == size


def test_a_square_window_is_no_larger_than_the_shorter_side():
    assert (clipped(7, (4, 12)), square(7, (4, 12))) == ((4, 7), (4, 4))


def test_without_maps_no_window_fits():
    assert fitting((), clipped) == ()


@pytest.mark.parametrize(
    ("name", "pixels", "windows", "own"),
    [
        (SWIN, 192, (2, 3, 6, 12, 24, 48), 6),
        ("swin_s3_tiny_224", 224, (7, 14, 28, 56), None),
        ("swinv2_base_window12to16_192to256", 256, (2, 4, 8, 16, 32, 64), 16),
        ("tiny_vit_5m_224", 224, (7, 14, 28), None),
        ("efficientvit_m0", 224, (7, 14), 7),
        ("efficientvit_m0", 192, (3, 6, 12), None),
        ("deit_tiny_patch16_224", 224, (), None),
        (SWIN, 100, (), None),
        (SWIN, (64, 128), (2, 4, 8, 16, 32), None),
        ("tiny_vit_5m_224", (64, 128), (2, 4, 8), None),
        ("efficientvit_m0", (64, 128), (2, 4), 4),
        (SWIN, (64, 100), (), None),
    ],
)
def test_windows_of_a_resolution(name, pixels, windows, own):
    assert backbones.windows(name, ImageSize.of(pixels)) == windows
    assert backbones.own_window(name, ImageSize.of(pixels)) == own


def test_the_reason_names_the_allowed_windows():
    assert backbones.supports(SWIN, "window_size@160", 7) == (
        f"windows of side 7 do not divide the maps of {SWIN} at 160 pixels; allowed: 5, 10, 20, 40"
    )
    assert backbones.supports(SWIN, "window_size", 7) is None
    assert backbones.supports("levit_128s", "window_size@224", 7).startswith("levit_128s attends over the whole image")


def test_maps_of_one_token_have_no_windows():
    assert backbones.supports("efficientvit_m0", "window_size@16", 7) == (
        "efficientvit_m0 has maps of one token at 16 pixels, so no windows"
    )


def test_a_map_that_no_square_divides_has_no_windows():
    assert backbones.supports("tiny_vit_5m_224", "window_size@64x96", 2) == (
        "tiny_vit_5m_224 has maps that no windows of equal sides divide at 64x96 pixels, so no windows"
    )


def test_a_window_that_would_pad_is_refused():
    with pytest.raises(PlanError, match="windows of side 3 do not divide"):
        backbones.find(SWIN).build(ModelSpec(SWIN, "none", ImageSize.square(64), 10, window_size=3))


@pytest.mark.parametrize("name", [SWIN, "efficientvit_m0", "tiny_vit_5m_224"])
@pytest.mark.long
def test_larger_windows_cost_more(name):
    """The cost of attention grows with the square of the side for each token; nothing is padded."""
    family, image, costs = backbones.find(name), torch.zeros(1, 3, 128, 128), []
    for window in (2, 4, 8):
        model = family.build(ModelSpec(name, "none", ImageSize.square(128), 10, window_size=window)).model
        costs.append(macs.count(model, image)[0])
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.long
def test_swin_v2_measures_distances_in_units_of_its_own_window():
    """Two tokens have the same coordinates in a smaller window."""
    family = backbones.find(SWINV2)
    own, small = (
        family.build(ModelSpec(SWINV2, "none", ImageSize.square(128), 10, window_size=side)).model for side in (None, 2)
    )
    tables = [model.layers[0].blocks[0].attn.relative_coords_table for model in (own, small)]
    assert tables[0].shape[1:3] == (7, 7)
    torch.testing.assert_close(tables[0][:, 2:5, 2:5], tables[1])
