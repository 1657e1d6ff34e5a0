"""`vitsearch check` of a space file whose weights are hostile: exit code 2, and one sentence that names the file."""

from __future__ import annotations

import sys

import pytest

from support.hostile_weights import HOSTILE, file_of, tensor
from vitsearch.cli.app import main

SPACE = """
study: ours
task:
  data: {{source: builtin:fashion-mnist-14k}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize}}
space:
  backbone: [{{name: vit_fmnist_p4, weights: "file:{path}"}}]
  resolution: 28
"""
CONTENTS = HOSTILE | {"the weights of another model": file_of({"a": tensor()}, bytes(8))}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_hostile_weights_are_one_problem_of_the_space_file(tmp_path, monkeypatch, capsys, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    (tmp_path / "space.yaml").write_text(SPACE.format(path=path))
    monkeypatch.setattr(sys, "argv", ["vitsearch", "check", "--no-costs", str(tmp_path / "space.yaml")])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed.out
    assert "Traceback" not in printed.err
    (problem,) = [line for line in printed.err.splitlines() if str(path) in line]
    assert problem.isprintable()
