"""Hostile ONNX files end in one reason each: the agent answers, and measures a sound model after each; `verify` of a
bundle of one, whose author wrote right checksums, fails in one sentence."""

import json
import time

import pytest

from support.bundles import PREPROCESSING, PROTOCOL, manifest, saved, write_bundle
from vitsearch_agent.cli import app
from vitsearch_agent.errors import AgentError
from vitsearch_agent.verify import model_runner

pytestmark = pytest.mark.long

LIMIT_S = 20.0
"""Of a measurement here: the endless loop takes it all."""


def test_each_hostile_model_has_one_reason_and_a_sound_one_measures_after_it(serve_agent, tiny_protocol, tmp_path):
    pytest.importorskip("onnxruntime")
    hostile_onnx = pytest.importorskip("support.hostile_onnx")
    folder = tmp_path / "models"
    folder.mkdir()
    hostile_onnx.write_beside(folder)
    served, short = serve_agent(), tiny_protocol._replace(timeout_s=LIMIT_S)
    model, through = folder / "model.onnx", []
    with served.client(deadline_s=300.0) as client:
        for repeat, (name, content) in enumerate(hostile_onnx.HOSTILE.items()):
            model.write_bytes(content())
            began = time.monotonic()
            try:
                client.measure(str(model), "onnxruntime", {}, short, repeat)
                through.append((name, "was measured"))
            except AgentError as error:
                print(f"{name}: {error} ({time.monotonic() - began:.1f} s)")
                if "Traceback" in str(error) or len(str(error)) > 2000:
                    through.append((name, str(error)))
            except Exception as error:  # noqa: BLE001 - whatever comes through is named
                through.append((name, repr(error)))
            model.write_bytes(hostile_onnx.sound())
            assert client.measure(str(model), "onnxruntime", {}, tiny_protocol, repeat).latency_ms.n == 11, name
    assert not through
    assert served.process.poll() is None


def bundle_of(folder, hostile_onnx, content):
    """A bundle of a model for four images, all of the first class, as a sound one classifies them."""
    numpy = pytest.importorskip("numpy")
    size = {"image_size": 8, "crop_size": 8, "resolution": 8, "channels": 3, "mean": [0.0] * 3, "std": [1.0] * 3}
    classes = saved(numpy.zeros(4, "<i8"))
    files = {
        "model.onnx": content,
        "preprocessing.json": json.dumps(dict(PREPROCESSING, **size)).encode(),
        "labels.json": json.dumps([f"class {number}" for number in range(hostile_onnx.WIDTH)]).encode(),
        "images/images.npy": saved(numpy.zeros((4, 8, 8, 3), "u1")),
        "images/labels.npy": classes,
        "images/predictions.npy": classes,
        "weights.bin": bytes(hostile_onnx.BYTES),
    }
    described = manifest(figures={}, protocol=PROTOCOL._replace(timeout_s=LIMIT_S).to_json())
    path = write_bundle(folder, described, files)
    hostile_onnx.write_beside(folder)
    if b"link.bin" not in content:
        (folder / "link.bin").unlink()  # a bundle with a link in it is refused for that
    return path


def test_a_bundle_of_a_hostile_model_is_not_verified_and_says_why(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    hostile_onnx = pytest.importorskip("support.hostile_onnx")
    monkeypatch.setattr(model_runner, "FIRST_S", LIMIT_S)
    monkeypatch.setattr(model_runner, "UNKNOWN_MS", 0.0)
    sound = bundle_of(tmp_path / "sound", hostile_onnx, hostile_onnx.sound())
    assert app.main(["verify", sound]) == 0
    assert "4 of 4 correct" in capsys.readouterr().out
    through, said = [], ""
    for number, (name, content) in enumerate(hostile_onnx.HOSTILE.items()):
        code = app.main(["verify", bundle_of(tmp_path / str(number) / "bundle", hostile_onnx, content())])
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        failed = [line for line in lines if line.startswith(("failed ", "error"))]
        print(f"{name}: {code}: {failed}")
        sentences = all(line.isprintable() and len(line) < 1000 and "Traceback" not in line for line in lines)
        if code == 0 or not failed or not sentences or "root:" in printed.out:
            through.append((name, code, lines))
        said += printed.out
    assert not through
    assert "no outputs of 4 images after 20 s" in said  # of the endless loop
    assert app.main(["verify", sound]) == 0
