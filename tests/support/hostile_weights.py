"""Files that are called weights and hold none, or not what their header says."""

import json
import pickle
import struct
from collections.abc import Mapping, Sequence


def file_of(header: bytes | Mapping[str, object], data: bytes = b"") -> bytes:
    """A safetensors file, whose header may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str = "F32", shape: Sequence[int] = (2,), offsets: Sequence[int] = (0, 8)) -> dict[str, object]:
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
