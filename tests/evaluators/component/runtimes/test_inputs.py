import pytest

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.inputs import Input, random_feeds

pytest.importorskip("numpy")


def test_inputs_are_seeded_and_typed():
    inputs = [Input("image", "float16", ["n", 3]), Input("mask", "bool", [1])]
    first, second = random_feeds(inputs, 2, {}), random_feeds(inputs, 2, {})
    assert [array.shape for array in first.arrays] == [(2, 3), (1,)]
    assert [str(array.dtype) for array in first.arrays] == ["float16", "bool"]
    assert (first.arrays[0] == second.arrays[0]).all()
    assert first.sizes == (2, {"image": (2, 3), "mask": (1,)})


def test_an_unknown_type_is_refused():
    with pytest.raises(MeasurementFailed, match="input 'text' has the type string; supported are float32"):
        random_feeds([Input("text", "string", [1])], None, {})


@pytest.mark.parametrize("sizes", [(2**31 - 1, 2**31 - 1, 2**31 - 1), (2**31 - 1, 2**31 - 1)])
def test_a_shape_beyond_any_memory_is_out_of_memory(sizes):
    with pytest.raises(MeasurementFailed, match="input 'x' does not fit in memory at the shape") as caught:
        random_feeds([Input("x", "float32", [None] * len(sizes))], None, {"x": sizes})
    assert caught.value.kind == "out_of_memory"
