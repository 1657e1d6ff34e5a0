"""What a file says of itself: how images become its input, the names of its classes, and its `artifact_key`.

    ONNX        metadata_props of the model
    OpenVINO    rt_info of the model, under `vitsearch`
    TFLite      a zip behind the model, as TFLite's own tools append one: `unzip -p model.tflite vitsearch.json`
    ExecuTorch  the same, behind the last segment, which its header ends: `unzip -p model.pte vitsearch.json`
    Core ML     the user-defined metadata of the model

Nothing here changes what the file computes, nor `vitsearch.export.structure`, which does not read it: files that
differ in this alone are one measurement. Study, trial and plan are left out, because one file serves many.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitsearch.core.targets import TARGETS
from vitsearch.registry import loaded

PREFIX = "vitsearch"
MEMBER = f"{PREFIX}.json"
WHEN = (1980, 1, 1, 0, 0, 0)


def describe(artifact_key: str, preprocessing: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, str]:
    """The metadata of a file: names and texts; what is not plain text is JSON."""
    settings, names = (json.dumps(value, sort_keys=True) for value in (dict(preprocessing), list(labels)))
    return {"artifact_key": artifact_key, "preprocessing": settings, "labels": names}


def write(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into a model file, in place."""
    writer = next(target.metadata for target in TARGETS.values() if target.suffix == path.suffix)
    loaded(writer)(path, metadata)


def in_onnx(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into an ONNX file, in place."""
    import onnx

    model = onnx.load(path)
    for name, text in metadata.items():
        model.metadata_props.add(key=f"{PREFIX}.{name}", value=text)
    onnx.save(model, path)


def behind(path: Path, metadata: Mapping[str, str]) -> None:
    """Append a zip to a file whose readers look at its start alone."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER, WHEN), json.dumps(dict(metadata), sort_keys=True))
