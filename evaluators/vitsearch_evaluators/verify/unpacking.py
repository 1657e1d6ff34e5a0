"""Unpacks the zip of a bundle, which may be damaged anywhere."""

import os
import struct
import zipfile
import zlib
from typing import Iterator

from vitsearch_evaluators.errors import DamagedBundle, InvalidRequest

_LOCAL_HEADER = b"PK\x03\x04"
_UNPACKED_MAX_BYTES = 4 << 30
_READ_BYTES = 1 << 20
_END_MAX_BYTES = 22 + 65535  # with the longest comment
_OURS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for bytes that are no zip: RuntimeError for a flag that says "encrypted" or an unknown version,
# ValueError for names that are not UTF-8, OSError for an offset before the start of the file.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)


def is_zip(path: str) -> bool:
    """Whether a file is a zip, or starts as one: the directory at the end of it may be damaged."""
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_LOCAL_HEADER)) == _LOCAL_HEADER or zipfile.is_zipfile(path)
    except OSError:
        return False


def unpack(path: str, folder: str) -> None:
    """Unpack the plain files of a zip; their names stay below `folder`. DamagedBundle names the files that cannot be
    read; InvalidRequest where the system cannot write them."""
    try:
        archive = zipfile.ZipFile(path)
    except _UNREADABLE as error:
        raise DamagedBundle(f"the zip is damaged: its directory cannot be read ({error})") from error
    with archive:
        found, recorded = len(archive.infolist()), _recorded_files(path)
        if found != recorded:  # zipfile does not compare them
            raise DamagedBundle(f"the zip is damaged: its directory has {found} of {recorded} files")
        size = sum(entry.file_size for entry in archive.infolist())
        if size > _UNPACKED_MAX_BYTES:
            raise DamagedBundle(f"the zip is damaged: it claims to unpack to {size} bytes")
        wrong = list(_unreadable(archive))
        if wrong:
            raise DamagedBundle(f"the zip is damaged: {'; '.join(wrong)}")
        try:
            archive.extractall(folder)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{path} cannot be unpacked to {folder}: {error}") from error


def _recorded_files(path: str) -> int:
    """The number of files by the record that ends a zip. zipfile has found that record."""
    with open(path, "rb") as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(max(length - _END_MAX_BYTES, 0))
        end = stream.read()
    (count,) = struct.unpack_from("<H", end, end.rindex(b"PK\x05\x06") + 10)
    return int(count)


def _unreadable(archive: zipfile.ZipFile) -> Iterator[str]:
    """Read every file once, and yield the name of each bad one with the reason. Reading alone compares the checksums
    of the zip."""
    for entry in archive.infolist():
        name = entry.filename.partition("/")[2] or entry.filename
        if entry.compress_type not in _OURS:
            yield f"{name} (unknown compression {entry.compress_type})"
            continue
        try:
            with archive.open(entry) as stream:
                while stream.read(_READ_BYTES):
                    pass
        except _UNREADABLE as error:
            yield f"{name} ({'bad CRC' if 'CRC' in str(error) else error or type(error).__name__})"
