"""Files that hold no weights are refused with what they hold."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.hostile_weights import HOSTILE
from vitsearch.backbones.weights_file import STATES, choice_of_state, read_state
from vitsearch.errors import WeightsError

ZERO = torch.zeros(1)


@given(content=st.binary(max_size=400))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_arbitrary_bytes_are_refused_with_a_message(tmp_path, content):
    path = tmp_path / "junk"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="holds no weights"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "description"),
    [
        ({"epoch": 3, "weight": torch.zeros(1)}, "a mapping with the keys epoch, weight"),
        ({1: torch.zeros(1)}, "a mapping with the keys 1"),
        ({}, "an empty mapping"),
        ([1, 2], "a value of type list"),
    ],
)
def test_a_torch_file_without_a_state_dict_says_what_it_holds(tmp_path, content, description):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match=f"holds no weights but {description}; expected is a state dict"):
        read_state(tmp_path / "file.pth")


def test_a_whole_pickled_model_is_refused_without_torchs_advice(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"Python objects besides tensors.*save model\.state_dict\(\) instead"):
        read_state(tmp_path / "model.pth")


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_safetensors_are_refused_with_a_message(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^\S+weights\.safetensors holds (no )?weights"):
        read_state(path)


@pytest.mark.parametrize("average", STATES[:2])
def test_of_several_states_the_one_that_is_read_is_named(tmp_path, average):
    path = tmp_path / "last.pth.tar"
    torch.save({"epoch": 3, "model": {"name": "vit"}, "state_dict": {"a": ZERO}, average: {"a": ZERO + 1}}, path)
    assert torch.equal(read_state(path)["a"], ZERO + 1)
    assert choice_of_state(path) == (
        f"{path} holds weights as {average} and state_dict: {average} is used; for others, save them alone in a file"
    )


@pytest.mark.parametrize(
    "content",
    [{"a": ZERO}, {"state_dict": {"a": ZERO}}, {"model": {"a": ZERO}, "model_ema": None}, {"state_dict": 1}],
    ids=["plain", "one", "no average was kept", "none"],
)
def test_nothing_is_said_of_a_file_that_leaves_no_choice(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    assert choice_of_state(tmp_path / "file.pth") is None
