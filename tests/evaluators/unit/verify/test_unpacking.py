"""A zip with a changed byte is a damaged one wherever that byte is, and never an error of Python."""

import io
import os
import struct
import zipfile

import pytest

from vitsearch_agent.errors import DamagedBundle
from vitsearch_agent.verify import unpacking
from vitsearch_agent.verify.unpacking import is_zip, unpack

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
    contents = {}
    for below, _, names in os.walk(str(folder)):
        for name in names:
            with open(os.path.join(below, name), "rb") as stream:
                inside = os.path.relpath(stream.name, str(folder)).replace(os.sep, "/")
                contents[inside] = stream.read()
    return contents


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
        outcome = unpacked(path, tmp_path / f"out{position}")
        if isinstance(outcome, str):
            assert outcome.startswith("the zip is damaged: ")
            damaged += 1
        else:
            assert outcome == FILES, position
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


def entry(name, mode=0, content=b"x", compression=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = compression
    return info, content


ODD = {
    "outside": ([entry("tiny/../../x")], "'tiny/../../x' is a path with .."),
    "absolute": ([entry("/tmp/x")], "'/tmp/x' is an absolute path"),
    "backslash": ([entry("tiny\\x")], "is a name with control characters, \\ or :"),
    "drive": ([entry("C:/x")], "'C:/x' is a name with control characters, \\ or :"),
    "control character": ([entry("tiny/\x1b[2J")], "is a name with control characters, \\ or :"),
    "not normal": ([entry("tiny//x")], "'tiny//x' is not a plain relative path"),
    "link": ([entry("tiny/link", 0o120777, b"/etc/passwd")], "link is a link or no regular file"),
    "link to a folder": ([entry("tiny/link/", 0o120777, b"/etc")], "link/ is a link or no regular file"),
    "FIFO": ([entry("tiny/fifo", 0o010644, b"")], "fifo is a link or no regular file"),
    "device": ([entry("tiny/zero", 0o020644, b"")], "zero is a link or no regular file"),
    "twice": ([entry("tiny/x"), entry("tiny/x")], "'tiny/x' is there twice"),
    "another case": ([entry("tiny/x"), entry("tiny/X")], "'tiny/X' is there twice"),
    "file and folder": ([entry("tiny/x"), entry("tiny/x/")], "'tiny/x' is there twice"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("entries", "message"), ODD.values(), ids=ODD)
def test_what_no_zip_of_a_bundle_has_is_refused_before_it_is_unpacked(tmp_path, entries, message):
    with zipfile.ZipFile(str(tmp_path / "tiny.zip"), "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    outcome = unpacked(tmp_path / "tiny.zip", tmp_path / "out")
    assert outcome == "the zip is damaged: " + outcome.partition(": ")[2]
    assert message in outcome
    assert not (tmp_path / "out").exists()


def test_an_encrypted_file_is_named(tmp_path):
    whole = bytearray(zipped())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(signature) + offset] |= 1
    (tmp_path / "tiny.zip").write_bytes(bytes(whole))
    assert unpacked(tmp_path / "tiny.zip", tmp_path / "out") == "the zip is damaged: bundle.json is encrypted"


def test_a_zip_that_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_SMALL_BYTES", 1 << 20)
    with zipfile.ZipFile(str(tmp_path / "tiny.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/zeros", bytes(2 << 20))
    outcome = unpacked(tmp_path / "tiny.zip", tmp_path / "out")
    assert outcome == f"the zip is damaged: it claims to unpack to {2 << 20} bytes"


@pytest.mark.parametrize(("count", "size"), [(65535, 100), (3, 1 << 30)])
def test_a_directory_that_takes_much_memory_is_not_read(tmp_path, monkeypatch, count, size):
    whole = bytearray(zipped())
    struct.pack_into("<HHL", whole, len(whole) - 14, count, count, size)
    (tmp_path / "tiny.zip").write_bytes(bytes(whole))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    outcome = unpacked(tmp_path / "tiny.zip", tmp_path / "out")
    assert outcome == f"the zip is damaged: it claims to have {count} files, allowed are 10000"


def test_a_large_directory_in_the_newer_form_is_not_read(tmp_path, monkeypatch):
    whole = zipped()
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(whole) - 22, 1)
    (tmp_path / "tiny.zip").write_bytes(whole[:-22] + record + locator + whole[-22:])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "claims to have 1099511627776 files" in unpacked(tmp_path / "tiny.zip", tmp_path / "out")


@pytest.mark.parametrize("tail", [b"PK\x05\x06", b"PK\x05\x06\0\0", b"PK\x05\x06" * 6])
def test_the_start_of_a_record_at_the_very_end_is_damage(tmp_path, tail):
    (tmp_path / "tiny.zip").write_bytes(zipped() + tail)
    assert unpacked(tmp_path / "tiny.zip", tmp_path / "out").startswith("the zip is damaged: its directory ")


@pytest.mark.parametrize("target", [None, "/dev/zero", "."])
def test_what_is_no_file_is_no_zip(tmp_path, target):
    path = tmp_path / "tiny.zip"
    os.mkfifo(str(path)) if target is None else path.symlink_to(target)
    assert not is_zip(str(path))
