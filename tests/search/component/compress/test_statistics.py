import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.compress.statistics import BlockStatistics, Statistics, UnitStatistics


def unit(units, columns):
    draw = np.random.default_rng(units)
    return UnitStatistics(*(draw.random(shape, np.float32) for shape in (units, units, columns, (columns, columns))))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=4), st.integers(1, 9))
def test_file_round_trip(tmp_path_factory, sizes, images):
    blocks = tuple(BlockStatistics(unit(h, 2 * h) if h else None, unit(f, f) if f else None) for h, f in sizes)
    path = tmp_path_factory.mktemp("statistics") / "any"
    Statistics(blocks, images).save(path)
    read_back = Statistics.load(path)
    assert read_back.images == images
    assert read_back.scores() == Statistics(blocks, images).scores()
    assert read_back.scores("variance") == Statistics(blocks, images).scores("variance")
    for (heads, ffn), block in zip(sizes, read_back.blocks, strict=True):
        assert ((block.heads is None), (block.ffn is None)) == (not heads, not ffn)
        if block.heads is not None:
            assert block.heads.covariance.shape == (2 * heads, 2 * heads)


def test_file_of_the_builtin_base_is_small(base, tmp_path):
    base.statistics.save(tmp_path / "statistics")
    assert (tmp_path / "statistics").stat().st_size < 16e6
