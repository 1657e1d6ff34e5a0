"""What the driver answers about a network of the user's, from facts alone."""

import pytest

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import NetworkFacts
from vitsearch.errors import NetworkError
from vitsearch.models.backbone import ModelSpec
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.segmentation.task import SEGMENTATION, Segmentation

REFUSALS = {
    "head_pruning_ratio": "no heads",
    "token_pruning_ratio": "no tokens",
    "window_size": "no windows",
    "quantization=int8_qat": "nothing to train",
    "resolution=30": "odd maps",
    "backend=litert": "no torch",
    "batch=open": "one image",
}
FACTS = NetworkFacts(
    "ab" * 32, ImageSize.square(28), (1,), None, (ImageSize.square(28), ImageSize.square(32)), REFUSALS
)
OURS = Catalogue.of_facts({"ours": FACTS})


@pytest.mark.parametrize(
    ("knob", "value", "reason"),
    [
        ("head_pruning_ratio", 0.5, "no heads"),
        ("head_pruning_ratio", 0.0, None),
        ("ffn_pruning_ratio", 0.5, None),
        ("token_pruning_method", "topk", "no tokens"),
        ("window_size", 7, "no windows"),
        ("window_size@28", 7, "no windows"),
        ("window_size@28", None, None),
        ("quantization", "int8_qat", "nothing to train"),
        ("quantization", "fp32", None),
        ("resolution", ImageSize.square(32), None),
        ("resolution", ImageSize.square(30), "odd maps"),
        (
            "resolution",
            ImageSize(64, 96),
            "ours was not tried at 64x96 pixels; it takes 28, 32: list the size in 'space.resolution'",
        ),
        ("weights", "none", None),
        ("backend", "litert", "no torch"),
        ("backend", "openvino", None),
        ("batch", "1", None),
        ("batch", "auto", None),
        ("batch", "8", "one image"),
        ("batch", "open", "one image"),
    ],
)
def test_a_knob_is_supported_unless_the_facts_have_a_reason(knob, value, reason):
    assert OURS.supports("ours", knob, value) == reason


def test_a_network_that_cannot_be_searched_raises_its_problem():
    with pytest.raises(NetworkError, match="it has no forward"):
        Catalogue({}, {"ours": "it has no forward"}).supports("ours", "weights", "none")


def test_channels_that_it_does_not_take_are_refused_with_the_key_that_helps():
    assert OURS.refused_channels("ours", 1) is None
    assert "task.data.channels" in str(OURS.refused_channels("ours", 3))


def test_the_architecture_enters_the_digest_of_random_weights():
    other = Catalogue.of_facts(
        {"ours": NetworkFacts("cd" * 32, ImageSize.square(28), (1,), None, (ImageSize.square(28),), {})}
    )
    spec = ModelSpec("ours", "none", ImageSize.square(28), 10, 1)
    assert OURS.starting_digest(spec) != other.starting_digest(spec)
    assert OURS.architecture("vit_fmnist_p4") == ""


@pytest.mark.parametrize(
    ("knob", "value", "reason"),
    [
        ("token_pruning_ratio", 0.3, "a map has a logit for each token, so none can be dropped"),
        ("token_pruning_ratio", 0.0, None),
        ("token_pruning_method", "topk", "a map has a logit for each token, so none can be dropped"),
        ("distillation", "feature", "a map has no single features or distillation head of an image; use logits"),
        ("distillation", "logits", None),
        ("ffn_pruning_ratio", 0.5, None),
    ],
)
def test_what_does_not_go_with_maps_is_refused(knob, value, reason):
    assert OURS.for_task(SEGMENTATION).supports("ours", knob, value) == reason


class Boxes(Segmentation):
    """A task on masks that has no map of vitsearch's."""

    kind, gives_map = "boxes", False


@pytest.mark.parametrize(("task", "share"), [(CLASSIFICATION, 0.9), (SEGMENTATION, 1.0), (Boxes(), 1.0)])
def test_models_see_whole_images_where_the_task_has_masks(task, share):
    preprocessing = Catalogue.of_facts({}).for_task(task).preprocessing("vit_small_patch16_224", "hub")
    assert preprocessing.crop_share == share
