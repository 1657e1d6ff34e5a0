"""The files of a bundle against its SHA256SUMS: each is there, is the shipped one, and there is nothing else.

What is not listed may run: Python takes a numpy.py beside example.py for NumPy, and a .pyc in __pycache__ for
preprocessing.py. Links, FIFOs and devices are never opened.
"""

import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple

from vitsearch_agent.base.canonical_json import stream_digest
from vitsearch_agent.base.plain_files import open_plain, read_plain
from vitsearch_agent.errors import DamagedBundle, InvalidRequest
from vitsearch_agent.verify import file_names

CHECKSUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
_CODE = (".py", ".pyc", ".pyd", ".so", ".pth", ".dll", ".dylib")
_OWN_CODE = ("example.py", "preprocessing.py")
BYTES_MAX = 4 << 30
"""The largest bundle, unpacked."""
LIST_MAX_BYTES = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\Z", re.DOTALL)


def read_list(folder: str) -> bytes:
    """Return the content of the list of checksums; InvalidRequest without one, DamagedBundle for another thing of that
    name."""
    try:
        return read_plain(os.path.join(folder, CHECKSUMS), LIST_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise InvalidRequest(f"{folder} is not a bundle of 'vitsearch ship': it has no readable {CHECKSUMS}") from error
    except OSError as error:
        raise DamagedBundle(f"{CHECKSUMS} cannot be read: {error.strerror}") from error


def parse(content: bytes) -> Dict[str, str]:
    """Return the checksum of each listed file; DamagedBundle for a list with anything else in it."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DamagedBundle(f"{CHECKSUMS} is not UTF-8 text") from error
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise DamagedBundle(f"{CHECKSUMS} is empty")
    entries = [_entry(number, line) for number, line in enumerate(lines, 1)]
    for name in file_names.twice(name for name, _ in entries):
        raise DamagedBundle(f"{CHECKSUMS} lists {name} twice")
    return dict(entries)


def _entry(number: int, line: str) -> Tuple[str, str]:
    match = _LINE.match(line)
    if match is None:
        raise DamagedBundle(f"{CHECKSUMS} line {number}: expected 'sha256  name', got {line[:80]!r}")
    sha256, name = match.groups()
    problem = "a name that the list and its signature have" if name in (CHECKSUMS, SIGNATURE) else None
    problem = problem or file_names.problem_of(name) or _foreign_code(name)
    if problem is not None:
        raise DamagedBundle(f"{CHECKSUMS} line {number}: {name[:80]!r} is {problem}")
    return name, sha256


def _foreign_code(name: str) -> Optional[str]:
    """What runs beside the example although `ship` writes no such file: Python prefers it to what is installed."""
    is_code = name.lower().endswith(_CODE) or "__pycache__" in name
    return "code that 'vitsearch ship' does not write" if is_code and name not in _OWN_CODE else None


def differences(folder: str, listed: Mapping[str, str]) -> List[str]:
    """Return what is wrong with the files in a folder: one text for each file that is missing, changed, not a regular
    file, or not listed."""
    present: Set[str] = set()
    added: List[str] = []
    size = 0
    for name, is_listed, entry in _entries(folder, listed):
        if is_listed:
            present.add(name)
            size += entry.stat(follow_symlinks=False).st_size
        else:
            added.append(f"{name} was added")
    if size > BYTES_MAX:
        return [f"its files have {size} bytes, allowed are {BYTES_MAX}"]
    wrong = [_difference(folder, name, sha256, present) for name, sha256 in sorted(listed.items())]
    return [text for text in wrong if text] + sorted(added)


def _difference(folder: str, name: str, sha256: str, present: Set[str]) -> str:
    """What is wrong with one listed file, nothing if it is the shipped one."""
    if name not in present:
        return f"{name} is missing"
    try:
        with open_plain(os.path.join(folder, *name.split("/"))) as stream:
            return "" if stream_digest(stream) == sha256 else f"{name} was changed"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"


def _entries(folder: str, listed: Mapping[str, str]) -> Iterator[Tuple[str, bool, "os.DirEntry[str]"]]:
    """Yield each entry of a bundle, and whether it is listed. A folder without a listed file is one that is not."""
    folders = {name[:end] for name in listed for end in range(len(name)) if name[end] == "/"}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(folder, *inside.split("/")) if inside else folder))
        except OSError as error:
            raise InvalidRequest(f"{os.path.join(folder, inside)} cannot be read: {error.strerror}") from error
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    waiting.append(name)
                else:
                    yield name + "/", False, entry
            elif name not in (CHECKSUMS, SIGNATURE) or not entry.is_file(follow_symlinks=False):
                yield name, name in listed, entry
