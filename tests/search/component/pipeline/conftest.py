"""A model whose measured cost is in its file."""

from __future__ import annotations

import json

import pytest

from vitsearch.pipeline.measure import ModelFile

GRAPH = "ab" * 32


@pytest.fixture
def file(tmp_path, plan):
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return ModelFile(lambda: path, GRAPH, plan.deployment)
