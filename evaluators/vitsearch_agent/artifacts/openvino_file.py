"""Check an OpenVINO IR (graph in XML, weights in a second file): it is well-formed and needs no additional code.

An IR does not name other files: the weights are always model.bin, and only a program can load libraries of
operators. Refused are a document type (entities expand and can read files), operators outside OpenVINO's own sets,
and constants outside the weights.
"""

import os
import re
from typing import BinaryIO, Iterator, List, Mapping
from xml.parsers import expat

from vitsearch_agent.artifacts.facts import Facts, refusal

XML_MAX_BYTES = 32 << 20
_BLOCK_BYTES, _BLOCK_MAX_BYTES = 1 << 16, 1 << 22
_DEPTH_MAX = 64
_ELEMENTS_MAX = 10**6
_IR_VERSIONS = ("10", "11")
_OPERATOR_SET = re.compile(r"opset[0-9]{1,3}\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


class _Graph:
    """Checks each element when the parser reads it."""

    def __init__(self, weights_bytes: int) -> None:
        self.layers = 0
        self._weights_bytes = weights_bytes
        self._elements = 0
        self._open: List[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if self._elements > _ELEMENTS_MAX or len(self._open) >= _DEPTH_MAX:
            raise refusal(f"the XML has more than {_ELEMENTS_MAX} elements or is nested deeper than {_DEPTH_MAX}")
        if not self._open:
            self._root(name, attributes)
        elif name == "layer":
            self._layer(attributes)
        elif name == "data" and self._open[-1] == "layer" and "offset" in attributes:
            self._constant(attributes)
        self._open.append(name)

    def end(self, _name: str) -> None:
        self._open.pop()

    def doctype(self, *_declared: object) -> None:
        raise refusal("the XML declares a document type, which an IR does not have")

    def _root(self, name: str, attributes: Mapping[str, str]) -> None:
        version = attributes.get("version", "none")
        if name != "net" or version not in _IR_VERSIONS:
            raise refusal(
                f"not an OpenVINO IR of version {' or '.join(_IR_VERSIONS)}: "
                f"its root is {name[:80]!r}, version {version[:80]!r}"
            )

    def _layer(self, attributes: Mapping[str, str]) -> None:
        self.layers += 1
        version = attributes.get("version", "")
        if not _OPERATOR_SET.match(version):
            raise refusal(
                f"the operator {attributes.get('type', '')[:80]!r} is from the set {version[:80]!r}, "
                "which needs an additional library"
            )

    def _constant(self, attributes: Mapping[str, str]) -> None:
        offset, size = attributes["offset"], attributes.get("size", "")
        inside = _NUMBER.match(offset) and _NUMBER.match(size) and int(offset) + int(size) <= self._weights_bytes
        if not inside:
            raise refusal(
                f"a constant has the offset {offset[:20]!r} and {size[:20]!r} bytes; "
                f"the weights have {self._weights_bytes} bytes"
            )


def _blocks(xml: BinaryIO) -> Iterator[bytes]:
    """Yield the file in pieces of growing size, because expat reads an unfinished token again at each piece."""
    size = _BLOCK_BYTES
    block = xml.read(size)
    while block:
        yield block
        size = min(2 * size, _BLOCK_MAX_BYTES)
        block = xml.read(size)


def inspect(xml: BinaryIO, xml_bytes: int, files: Mapping[str, str]) -> Facts:
    """Check the two files, return what they need; MeasurementFailed `incompatible_artifact` refuses them."""
    if xml_bytes > XML_MAX_BYTES:
        raise refusal(f"the XML has {xml_bytes} bytes; the limit is {XML_MAX_BYTES}")
    graph = _Graph(os.path.getsize(files["model.bin"]))
    # Fix the encoding: for a declared encoding Python would look up a codec of that name.
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = graph.start
    parser.EndElementHandler = graph.end
    parser.StartDoctypeDeclHandler = graph.doctype
    try:
        for block in _blocks(xml):
            parser.Parse(block, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, UnicodeError) as error:  # UnicodeError: Python 3.6
        raise refusal(f"not an OpenVINO IR: {error}") from error
    if not graph.layers:
        raise refusal("not an OpenVINO IR: it has no layers")
    return Facts("openvino")
