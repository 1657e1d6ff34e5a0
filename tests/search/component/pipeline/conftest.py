"""A model whose measured cost is in its file, and its trial."""

from __future__ import annotations

import json

import pytest

from vitsearch.core.record import Keys
from vitsearch.pipeline.measure import ModelFile
from vitsearch.pipeline.resolved_trial import ResolvedTrial

GRAPH = "ab" * 32


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return ModelFile(lambda: path)


@pytest.fixture
def trial(plan) -> ResolvedTrial:
    return ResolvedTrial(plan, None, None, Keys("cd" * 32, GRAPH, None, "d" * 64))
