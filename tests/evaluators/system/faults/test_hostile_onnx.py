"""Hostile ONNX files end in one reason each; the agent answers, and measures a sound model after each."""

import time

import pytest

from vitsearch_agent.errors import AgentError

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
