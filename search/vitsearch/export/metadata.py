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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

PREFIX = "vitsearch"
MEMBER = f"{PREFIX}.json"
WHEN = (1980, 1, 1, 0, 0, 0)


def describe(artifact_key: str, preprocessing: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, str]:
    """The metadata of a file: names and texts; what is not plain text is JSON."""
    settings, names = (json.dumps(value, sort_keys=True) for value in (dict(preprocessing), list(labels)))
    return {"artifact_key": artifact_key, "preprocessing": settings, "labels": names}


def write(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into a model file, in place."""
    _WRITERS[path.suffix](path, metadata)


def _onnx(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    for name, text in metadata.items():
        model.metadata_props.add(key=f"{PREFIX}.{name}", value=text)
    onnx.save(model, path)


def _openvino(path: Path, metadata: Mapping[str, str]) -> None:
    tree = ElementTree.parse(path)
    root = tree.getroot()
    existing = root.find("rt_info")
    info = ElementTree.SubElement(root, "rt_info") if existing is None else existing
    section = ElementTree.SubElement(info, PREFIX)
    for name, text in metadata.items():
        ElementTree.SubElement(section, name, value=text)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _behind(path: Path, metadata: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER, WHEN), json.dumps(dict(metadata), sort_keys=True))


def _coreml(path: Path, metadata: Mapping[str, str]) -> None:
    from vitsearch.export.coreml.coreml_file import quiet

    with quiet():
        from coremltools.proto import Model_pb2
    spec = Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    for name, text in metadata.items():
        spec.description.metadata.userDefined[f"{PREFIX}.{name}"] = text
    path.write_bytes(spec.SerializeToString(deterministic=True))


_WRITERS: dict[str, Callable[[Path, Mapping[str, str]], None]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".tflite": _behind,
    ".pte": _behind,
    ".mlmodel": _coreml,
}
"""By the suffix of the file that a runtime opens."""
