"""Unpacks the zip of a bundle, which may be damaged anywhere."""

import os
import stat
import struct
import zipfile
import zlib
from typing import BinaryIO, Iterator

from vitsearch_agent.base.plain_files import open_plain
from vitsearch_agent.errors import DamagedBundle, InvalidRequest
from vitsearch_agent.verify import file_names
from vitsearch_agent.verify.checksums import BYTES_MAX

_LOCAL_HEADER = b"PK\x03\x04"
FILES_MAX = 10000
_DIRECTORY_MAX_BYTES = 8 << 20
_SMALL_BYTES, _RATIO_MAX = 256 << 20, 100
"""What a zip may unpack to whatever its size, and beyond that in multiples of its size: weights hardly shrink."""
_READ_BYTES = 1 << 20
_SHOWN = 10
_ENCRYPTED = 1
_END = b"PK\x05\x06"
_END_BYTES, _ZIP64_BYTES = 22, 56 + 20
_END_MAX_BYTES = _END_BYTES + 65535  # with the longest comment
_OURS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for bytes that are no zip: RuntimeError for a flag that says "encrypted" or an unknown version,
# ValueError for names that are not UTF-8, OSError for an offset before the start of the file.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)


def is_zip(path: str) -> bool:
    """Whether a file is a zip, or starts as one: the directory at the end of it may be damaged."""
    try:
        with open_plain(path, links=True) as stream:
            return stream.read(len(_LOCAL_HEADER)) == _LOCAL_HEADER or zipfile.is_zipfile(stream)
    except OSError:
        return False


def unpack(path: str, folder: str) -> None:
    """Unpack the plain files of a zip, below `folder`. DamagedBundle names the files that cannot be read, and what no
    zip of a bundle has; InvalidRequest where the system cannot write the files."""
    try:
        with open_plain(path, links=True) as stream:
            _unpack(stream, path, folder)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error


def _unpack(stream: BinaryIO, path: str, folder: str) -> None:
    recorded = _record(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except _UNREADABLE as error:
        raise DamagedBundle(f"the zip is damaged: its directory cannot be read ({error})") from error
    with archive:
        count = len(archive.infolist())
        if count != recorded:  # zipfile does not compare them
            raise DamagedBundle(f"the zip is damaged: its directory has {count} of {recorded} files")
        _refuse_bomb(archive, os.fstat(stream.fileno()).st_size)
        wrong = list(_odd(archive)) or list(_unreadable(archive))
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise DamagedBundle(f"the zip is damaged: {'; '.join(wrong[:_SHOWN])}{more}")
        try:
            archive.extractall(folder)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{path} cannot be unpacked to {folder}: {error}") from error


def _record(stream: BinaryIO) -> int:
    """Return the number of files by the record that ends a zip, as zipfile finds it. DamagedBundle for a directory that
    would take much memory, which zipfile reads as a whole."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(max(length - _END_MAX_BYTES - _ZIP64_BYTES, 0))
    end = stream.read()
    at = len(end) - _END_BYTES
    if end[at:][: len(_END)] != _END or end[-2:] != b"\0\0":
        at = end.rfind(_END)
    if at < 0 or at + _END_BYTES > len(end):
        raise DamagedBundle("the zip is damaged: its directory cannot be read (File is not a zip file)")
    count, size = struct.unpack_from("<HL", end, at + 10)
    if at >= _ZIP64_BYTES and end[at - 20 : at - 16] == b"PK\x06\x07":
        count, size = struct.unpack_from("<QQ", end, at - _ZIP64_BYTES + 32)
    if count > FILES_MAX or size > _DIRECTORY_MAX_BYTES:
        raise DamagedBundle(f"the zip is damaged: it claims to have {count} files, allowed are {FILES_MAX}")
    return int(count)


def _refuse_bomb(archive: zipfile.ZipFile, packed: int) -> None:
    size = sum(entry.file_size for entry in archive.infolist())
    if size > BYTES_MAX or size > max(_SMALL_BYTES, _RATIO_MAX * packed):
        raise DamagedBundle(f"the zip is damaged: it claims to unpack to {size} bytes")


def _odd(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what no zip of a bundle has: names that lead elsewhere, names twice, links, encrypted files."""
    entries = archive.infolist()
    for entry in entries:
        problem = file_names.problem_of(entry.orig_filename[:-1] if entry.is_dir() else entry.orig_filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if problem is not None:
            yield f"{entry.orig_filename[:80]!r} is {problem}"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > entry.is_dir():
            yield f"{_inside(entry)} is a link or no regular file"
        elif entry.flag_bits & _ENCRYPTED:
            yield f"{_inside(entry)} is encrypted"
    for name in file_names.twice(entry.filename.rstrip("/") for entry in entries):
        yield f"{name[:80]!r} is there twice"


def _inside(entry: zipfile.ZipInfo) -> str:
    return entry.filename.partition("/")[2] or entry.filename


def _unreadable(archive: zipfile.ZipFile) -> Iterator[str]:
    """Read every file once, and yield the name of each bad one with the reason. Reading alone compares the checksums
    of the zip."""
    for entry in archive.infolist():
        name = _inside(entry)
        if entry.compress_type not in _OURS:
            yield f"{name} (unknown compression {entry.compress_type})"
            continue
        try:
            with archive.open(entry) as stream:
                while stream.read(_READ_BYTES):
                    pass
        except _UNREADABLE as error:
            yield f"{name} ({'bad CRC' if 'CRC' in str(error) else error or type(error).__name__})"
