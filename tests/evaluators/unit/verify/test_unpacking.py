"""A zip with a changed byte is a damaged one wherever that byte is, and never an error of Python."""

import io
import os
import zipfile

import pytest

from vitsearch_evaluators.errors import DamagedBundle
from vitsearch_evaluators.verify.unpacking import is_zip, unpack

FILES = {"tiny/bundle.json": b'{"name": "tiny"}', "tiny/images/images.npy": bytes(range(64)) * 4}


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def unpacked(path, folder):
    """The files of a zip, or the message about its damage."""
    try:
        unpack(str(path), str(folder))
    except DamagedBundle as damage:
        return str(damage)
    found = {}
    for below, _, names in os.walk(str(folder)):
        for name in names:
            with open(os.path.join(below, name), "rb") as stream:
                inside = os.path.relpath(stream.name, str(folder)).replace(os.sep, "/")
                found[inside] = stream.read()
    return found


def test_an_intact_zip_gives_its_files(tmp_path):
    (tmp_path / "tiny.zip").write_bytes(zipped())
    assert unpacked(tmp_path / "tiny.zip", tmp_path / "out") == FILES


@pytest.mark.parametrize("change", [0x01, 0x08, 0x80, 0xFF], ids=hex)
def test_a_changed_byte_is_damage_or_changes_no_file(tmp_path, change):
    """Bytes of times and permissions change no file; any other one is told."""
    whole = zipped()
    damaged = 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= change
        path = tmp_path / "tiny.zip"
        path.write_bytes(bytes(content))
        assert is_zip(str(path)) or position < 4
        found = unpacked(path, tmp_path / f"out{position}")
        if isinstance(found, str):
            assert found.startswith("the zip is damaged: ")
            damaged += 1
        else:
            assert found == FILES, position
    assert damaged > len(whole) / 2


def test_the_damaged_file_is_named(tmp_path):
    whole = bytearray(zipped())
    data = whole.index(b"tiny/images/images.npy") + len(b"tiny/images/images.npy")
    whole[data + 10] ^= 0xFF
    (tmp_path / "tiny.zip").write_bytes(bytes(whole))
    assert unpacked(tmp_path / "tiny.zip", tmp_path / "out").startswith("the zip is damaged: images/images.npy (")


def test_a_zip_that_was_cut_off_is_damaged(tmp_path):
    path = tmp_path / "tiny.zip"
    path.write_bytes(zipped()[:-30])
    assert is_zip(str(path))
    message = "the zip is damaged: its directory cannot be read (File is not a zip file)"
    assert unpacked(path, tmp_path / "out") == message


def test_a_zip_that_fills_the_disk_is_refused(tmp_path):
    whole = bytearray(zipped())
    directory = whole.index(b"PK\x01\x02")
    for entry in (directory, whole.index(b"PK\x01\x02", directory + 1)):
        whole[entry + 24 : entry + 28] = b"\xff\xff\xff\xfe"
    (tmp_path / "tiny.zip").write_bytes(bytes(whole))
    assert "claims to unpack to 85" in unpacked(tmp_path / "tiny.zip", tmp_path / "out")


def test_what_is_no_zip_is_told_from_a_damaged_one(tmp_path):
    (tmp_path / "text").write_text("PK")
    assert not is_zip(str(tmp_path / "text"))
    assert not is_zip(str(tmp_path / "nothing"))
    assert not is_zip(str(tmp_path))
