"""Recognise files that are not models by their first bytes, with advice for each."""

from typing import Optional

from vitsearch_agent.runtime_facts import FORMATS

HEAD_BYTES = 64
"""The number of bytes at the start of a file that identify it."""

_AT_START = (
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint, perhaps): export the model to ONNX"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x7fELF", "a program or library (ELF): code is not accepted"),
    (b"MZ", "a Windows program or library: code is not accepted"),
    (b"\xcf\xfa\xed\xfe", "a macOS program or library: code is not accepted"),
    (b"#!", "a script: code is not accepted"),
    (b"ftrt", "a TensorRT engine, which is machine code: send the ONNX file from which it was built"),
    (b"ptrt", "a TensorRT engine, which is machine code: send the ONNX file from which it was built"),
    (b"\x89HDF", "an HDF5 file (Keras, perhaps): convert the model to TFLite or ONNX"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself (git lfs pull)"),
    (b"<!DOCTYPE html", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
)
_PICKLE_PROTOCOLS = (2, 3, 4, 5)


def other_format(head: bytes) -> Optional[str]:
    """Describe a file by its first bytes; None if it may be a model."""
    if not head.strip(b"\0"):
        return "empty" if not head else "filled with zeros at its start"
    if head[0] == 0x80 and len(head) > 1 and head[1] in _PICKLE_PROTOCOLS:
        return "a pickle, which is code: export the model to ONNX"
    for start, what in _AT_START:
        if head.startswith(start):
            return what
    if head[4:8] == b"ORTM":
        return "in onnxruntime's own format (.ort): send the ONNX file from which it was made"
    if head[8:10] == b'{"' and head[2:8] == b"\0" * 6:
        return "a safetensors file, which holds weights without a graph: export the model to ONNX"
    return None


def other_kind(head: bytes) -> Optional[str]:
    """Return the kind of model that these first bytes prove, None if they prove none."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for kind, form in FORMATS.items():
        if form.mark is not None and head.startswith(form.mark[1], form.mark[0]):
            return kind
        if form.text_marks and text.startswith(form.text_marks):
            return kind
    return None
