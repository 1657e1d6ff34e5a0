import os

import torch
from torch import nn

from vitsearch.targets.litert.conversion_cache import KEPT, cached, program_digest


def put(folder, key, path, conversions):
    def make():
        conversions.append(key)
        path.write_text(f"file of {key}")

    cached(folder, key, path, make)
    return path.read_text()


def test_a_file_is_made_once(tmp_path):
    conversions = []
    assert put(tmp_path / "kept", "a", tmp_path / "one", conversions) == "file of a"
    assert put(tmp_path / "kept", "a", tmp_path / "two", conversions) == "file of a"
    assert put(tmp_path / "kept", "b", tmp_path / "one", conversions) == "file of b"
    assert conversions == ["a", "b"]


def test_the_files_that_were_used_last_are_kept(tmp_path):
    conversions, kept = [], tmp_path / "kept"
    for number in range(KEPT):
        put(kept, str(number), tmp_path / "file", conversions)
        os.utime(kept / str(number), (number, number))
    put(kept, "0", tmp_path / "file", conversions)  # used again
    put(kept, "new", tmp_path / "file", conversions)
    assert {path.name for path in kept.iterdir()} == {"new", "0", *map(str, range(2, KEPT))}


def saved(path, weight):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, weight)
    nn.init.constant_(layer.bias, 0)
    torch.export.save(torch.export.export(layer, (torch.zeros(1, 2),)), path)
    return path


def test_the_digest_of_a_program_is_that_of_its_contents(tmp_path):
    first, again = saved(tmp_path / "first.pt2", 1.0), saved(tmp_path / "again.pt2", 1.0)
    assert program_digest(first) == program_digest(again) != program_digest(saved(tmp_path / "other.pt2", 2.0))
