import pytest

from vitsearch_agent.artifacts.facts import Declared
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.shapes import run_shapes

DETECTOR = [Declared("x", ["batch", 3, "height", "width"])]
VOICE = [Declared("input", ["batch", "samples"]), Declared("state", [2, "batch", 128]), Declared("sr", [])]
FIXED = [Declared("images", [4, 3, 8, 8])]


@pytest.mark.parametrize(
    ("declared", "batch", "requested", "sizes"),
    [
        (FIXED, None, {}, (4, {"images": (4, 3, 8, 8)})),
        (FIXED, 4, {"images": (4, 3, 8, 8)}, (4, {"images": (4, 3, 8, 8)})),
        ([Declared("x", ["n", 8])], None, {}, (1, {"x": (1, 8)})),
        ([Declared("x", [-1, 8]), Declared("size", [None, 2])], 5, {}, (5, {"x": (5, 8), "size": (5, 2)})),
        ([Declared("x", [3, 8]), Declared("mask", ["n", 8])], None, {}, (3, {"x": (3, 8), "mask": (3, 8)})),
        (DETECTOR, None, {"x": (2, 3, 640, 640)}, (2, {"x": (2, 3, 640, 640)})),
        (VOICE, 1, {"input": (1, 512), "state": (2, 1, 128)}, (1, {"input": (1, 512), "state": (2, 1, 128), "sr": ()})),
        ([Declared("x", None)], None, {"x": (6, 2)}, (6, {"x": (6, 2)})),
        ([Declared("scale", [])], 1, {}, (1, {"scale": ()})),
        ([], None, {}, (1, {})),
    ],
    ids=[
        "fixed",
        "fixed and requested",
        "open",
        "two open",
        "fixed first",
        "requested",
        "several requested",
        "unknown rank",
        "scalar",
        "no inputs",
    ],
)
def test_only_an_open_first_dimension_is_the_batch(declared, batch, requested, sizes):
    assert run_shapes(declared, batch, requested) == sizes


@pytest.mark.parametrize(
    ("declared", "batch", "requested", "message"),
    [
        (
            DETECTOR,
            None,
            {},
            "only an open first dimension is the batch, any other needs a size: input 'x' [batch, 3, height, width]; "
            "give, for example, --shape x=1,3,224,224",
        ),
        (DETECTOR, 8, {}, "--shape x=8,3,224,224"),
        (VOICE, None, {}, "give, for example, --shape input=1,224 --shape state=2,1,128"),
        ([Declared("an x", [-1, None])], None, {}, "input 'an x' [?, ?]; give, for example, --shape 'an x=1,224'"),
        ([Declared("x", None)], None, {}, "input 'x' of unknown shape; give, for example, --shape x=1,3,224,224"),
        (FIXED, 8, {}, "the model fixes batch 4 (input 'images' [4, 3, 8, 8]), but batch 8 was requested"),
        (DETECTOR, 4, {"x": (1, 3, 8, 8)}, "--shape gives batch 1 (input 'x' [batch, 3, height, width]), but batch 4"),
        ([], 2, {}, "the model has no input with a batch, but batch 2 was requested"),
        ([], None, {"x": (1,)}, "--shape x: the model has no inputs"),
        (FIXED, None, {"image": (4, 3, 8, 8)}, "no such input; did you mean 'images'? its inputs are 'images'"),
        (FIXED, None, {"images": (4, 3, 8)}, "--shape images=4,3,8 has 3 sizes, but input 'images' [4, 3, 8, 8] has 4"),
        (
            FIXED,
            None,
            {"images": (4, 1, 8, 8)},
            "--shape images=4,1,8,8 differs from a size that the model fixes: input",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_give(declared, batch, requested, message):
    with pytest.raises(MeasurementFailed) as caught:
        run_shapes(declared, batch, requested)
    assert caught.value.kind == "incompatible_artifact"
    assert message in str(caught.value)


def test_all_problems_are_reported_at_once():
    with pytest.raises(MeasurementFailed) as caught:
        run_shapes(VOICE, None, {"inptu": (1, 2), "sr": (1,)})
    for part in ("did you mean 'input'?", "--shape sr=1 has 1 sizes", "--shape state=2,1,128"):
        assert part in str(caught.value)
