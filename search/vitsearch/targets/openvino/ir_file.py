"""An IR file of OpenVINO: what its cost depends on, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vitsearch.export.metadata import PREFIX

INDICES = frozenset({"i64", "boolean"})
"""Types of constants that are shapes and indices, which belong to the structure."""


def structure(path: Path) -> Iterator[Any]:
    """The layers in their order without names, and the edges between them."""
    content = path.with_suffix(".bin").read_bytes()
    root = ElementTree.parse(path).getroot()
    numbers: dict[str | None, int] = {}
    for layer in root.iterfind("layers/layer"):
        number = numbers.setdefault(layer.get("id"), len(numbers))
        element = layer.find("data")
        data = {} if element is None else dict(element.attrib)
        if layer.get("type") == "Const":
            start, size = int(data.pop("offset")), int(data.pop("size"))
            data["values"] = _values(content[start : start + size], data["element_type"])
        ports = [[size.text for size in port.iter("dim")] for port in layer.iter("port")]
        yield [number, layer.get("type"), layer.get("version"), data, ports]
    for edge in root.iterfind("edges/edge"):
        ends = numbers[edge.get("from-layer")], numbers[edge.get("to-layer")]
        yield [*ends, edge.get("from-port"), edge.get("to-port")]


def _values(content: bytes, kind: str) -> Any:
    return content.hex() if kind in INDICES else int(10 * content.count(0) / max(len(content), 1))


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into `rt_info`, in place."""
    tree = ElementTree.parse(path)
    root = tree.getroot()
    existing = root.find("rt_info")
    info = ElementTree.SubElement(root, "rt_info") if existing is None else existing
    section = ElementTree.SubElement(info, PREFIX)
    for name, text in metadata.items():
        ElementTree.SubElement(section, name, value=text)
    tree.write(path, encoding="utf-8", xml_declaration=True)
