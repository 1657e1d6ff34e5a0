"""What the rounding of each layer of an unpruned model does to its answers: for precisions that leave some in fp32."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsearch.core.stage import Stage
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.job import SourceJob, Stored
from vitsearch_agent.base.canonical_json import digest


def sensitivity_key(model: Mapping[str, Any], calibration: Mapping[str, Any], window_size: int | None) -> str:
    """The key of a sensitivity.

    Args:
        model: What enters keys of the unpruned model.
        calibration: The images, with their digest.
        window_size: That of the plan.

    Returns:
        A SHA-256.
    """
    described = {"stage": Stage.SENSITIVITY, "calibration": dict(calibration), "window": window_size}
    return digest(described | dict(model))


@dataclass(frozen=True)
class SensitivityJob(SourceJob[Stored]):
    """Writes a JSON file of the KL in nats that rounding each layer alone gives on the calibration images, by the
    layer's name."""

    stage = Stage.SENSITIVITY
    calibration: Calibration

    def work(self) -> Stored:
        from vitsearch.compress.quantization import sensitivity
        from vitsearch.stages.parts.images import drawn, torch_device
        from vitsearch.stages.parts.models import base_model

        model = base_model(self.source, self.workspace).to(torch_device())
        inputs = drawn(self.workspace, self.calibration, self.source.view, torch_device())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sensitivity.json"
            path.write_text(json.dumps(sensitivity.rounding_sensitivity(model, inputs, self.workspace.task.find())))
            return Stored(self.workspace.store.put(path), path.stat().st_size)
