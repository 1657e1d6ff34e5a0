"""Networks of the user's are examined in a process of their own: what it says, and what it survives."""

import json
import os
import sys

import pytest
import torch
from torch import nn

from vitsearch.backbones import examine as examining
from vitsearch.backbones.catalogue import Catalogue
from vitsearch.backbones.examine import examine
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import OnnxNetwork, PythonNetwork
from vitsearch.errors import NetworkError

NET = """
print("words on standard output")
import torch
from torch import nn

def make(classes, channels):
    stem = nn.Conv2d(channels, 16, 4, 4)
    return nn.Sequential(stem, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
"""


def written(folder, code, name="examined_network"):
    (folder / f"{name}.py").write_text(code)
    return PythonNetwork("ours", f"{name}:make", str(folder), ImageSize.square(16))


def test_the_facts_of_a_network_come_back_without_importing_it(tmp_path):
    sizes = ImageSize.square(16), ImageSize(16, 24), ImageSize.square(24)
    facts = examine(written(tmp_path, NET), "none", sizes[1:])
    assert (facts.native_resolution, facts.channels, facts.classes) == (sizes[0], (3, 1), None)
    assert facts.resolutions == sizes
    assert "no attention heads" in facts.levels
    assert "has no attention heads" in facts.refusals["head_pruning_ratio"]
    assert "examined_network" not in sys.modules


def test_changed_code_is_examined_again(tmp_path):
    before = examine(written(tmp_path, NET), "none", ())
    network = written(tmp_path, NET.replace("nn.ReLU()", "nn.Tanh()"))
    os.utime(tmp_path / "examined_network.py", (2e9, 2e9))
    assert examine(network, "none", ()).architecture != before.architecture


def test_code_that_ends_its_process_is_one_problem(tmp_path):
    with pytest.raises(
        NetworkError,
        match="ours: its code ended the process that examined it .exit code 3.; its last words: last words",
    ):
        examine(written(tmp_path, "import os\nos.write(2, b'last words')\nos._exit(3)"), "none", ())


def test_code_that_waits_for_ever_is_one_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(examining, "LONGEST_S", 1.0)
    with pytest.raises(NetworkError, match="ours: building, tracing and cutting it took longer than 1 s"):
        examine(written(tmp_path, "import time\ntime.sleep(600)"), "none", ())


def test_a_network_takes_no_more_memory_than_the_machine_has_left(tmp_path):
    code = "import resource\nassert resource.getrlimit(resource.RLIMIT_DATA)[0] == -1, 'bounded'"
    with pytest.raises(NetworkError, match="AssertionError: bounded"):
        examine(written(tmp_path, code), "none", ())


def test_a_catalogue_keeps_the_problem_of_a_network_beside_the_others(tmp_path):
    catalogue = Catalogue.examined([(written(tmp_path, "def make(): return 3"), "none")], ())
    assert catalogue.problems == {"ours": "ours: examined_network:make returned int, not a torch.nn.Module"}


def test_a_name_of_timm_is_refused(tmp_path):
    network = PythonNetwork("resnet18", "anything:make", str(tmp_path), ImageSize.square(16))
    assert "is a backbone of timm or of vitsearch" in Catalogue.examined([(network, "none")], ()).problems["resnet18"]


def test_facts_are_plain_values(tmp_path):
    facts = examine(written(tmp_path, NET), "none", ())
    assert type(facts).from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_the_facts_of_an_onnx_file_come_back(tmp_path):
    path, linear = tmp_path / "theirs.onnx", nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    torch.onnx.export(linear, (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False)
    facts = examine(
        OnnxNetwork("theirs", str(path), "nchw", ImageSize.square(16)), f"file:{path}", (ImageSize(16, 24),)
    )
    assert (facts.channels, facts.classes, facts.resolutions, facts.opset) == ((3,), 5, (ImageSize.square(16),), 20)
    refused = {
        "ffn_pruning_ratio",
        "quantization=int8_qat",
        "backend=litert",
        "distillation=feature",
        "resolution=16x24",
    }
    assert refused <= facts.refusals.keys()
    assert "distillation=logits" not in facts.refusals


def test_a_file_that_is_no_onnx_file_is_one_problem(tmp_path):
    path = tmp_path / "theirs.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(NetworkError, match="theirs: .* is not an ONNX file"):
        examine(OnnxNetwork("theirs", str(path), "nchw", ImageSize.square(16)), f"file:{path}", ())
