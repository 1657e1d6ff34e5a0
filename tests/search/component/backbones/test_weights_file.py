"""Files that hold no weights are refused with what they hold."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitsearch.backbones.weights_file import read_state
from vitsearch.errors import WeightsError


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


def file_of(header, data=b""):
    """A safetensors file, whose header may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE = {
    "a header of 4 EB": struct.pack("<Q", 2**62) + b"{}" + b" " * 100,
    "a header of 1 GB": struct.pack("<Q", 2**30) + b"{" + b" " * 100,
    "a header that is not JSON": file_of(b"{not json}"),
    "a deep header": file_of(b"{" + b'"a":{' * 100_000),
    "tensors that overlap": file_of({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)),
    "offsets out of the file": file_of({"a": tensor(offsets=(0, 8000))}, bytes(8)),
    "offsets backwards": file_of({"a": tensor(offsets=(8, 0))}, bytes(8)),
    "an unknown type": file_of({"a": tensor("X99")}, bytes(8)),
    "a type that torch cannot read": file_of({"a": tensor("F4", (16,))}, bytes(8)),
    "a huge shape": file_of({"a": tensor(shape=(2**40, 2**40))}, bytes(8)),
    "a huge shape of nothing": file_of({"a": tensor(shape=(2**40, 2**40, 0), offsets=(0, 0))}),
    "a negative shape": file_of({"a": tensor(shape=(-2,))}, bytes(8)),
    "no bytes": b"",
    "no tensors": file_of({}),
    "a pickle": pickle.dumps({"a": print}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_safetensors_are_refused_with_a_message(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^\S+weights\.safetensors holds (no )?weights"):
        read_state(path)
