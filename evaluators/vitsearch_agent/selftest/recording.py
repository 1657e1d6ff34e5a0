"""Records what is read of a system: files, links, lists of files, and what tools print.

`replay` makes a system of it, on which every reader of temperature, throttling, power and settings finds the same. So
the report of a board that nobody here has is a fixture for tests.
"""

import os
import posixpath
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import NoStream, Output, Reading, Stream, System
from vitsearch_agent.conditions.emulation import DeviceTree, emulated_system
from vitsearch_agent.config import EmulationConfig
from vitsearch_agent.errors import InvalidRequest

TEXT_MAX = 256 << 10
"""The most characters that are kept of one file or of the output of one tool."""
LINES_MAX = 64
"""The most lines that are kept of a tool that prints until it is closed."""
_PATH_MAX = 1024
_SERIAL = re.compile(r"^Serial\s*:.*\n?", re.MULTILINE)
"""In /proc/cpuinfo of a Raspberry Pi: it would say which board this is."""


class Recording(NamedTuple):
    """What was read of a system.

    Attributes:
        files: Path -> its text when it was read first.
        later: Path -> its text when it was read last, of those that had changed.
        found: Paths that a pattern matched.
        links: Path -> the path behind its links.
        commands: Command line -> what the tool printed.
        streams: Command line -> the lines of a tool that prints until it is closed.
        reasons: Path or command line -> why nothing could be read.
    """

    files: Mapping[str, str]
    later: Mapping[str, str]
    found: Tuple[str, ...]
    links: Mapping[str, str]
    commands: Mapping[str, str]
    streams: Mapping[str, Tuple[str, ...]]
    reasons: Mapping[str, str]

    def to_json(self) -> Dict[str, Any]:
        value = {name: dict(part) for name, part in self._asdict().items() if name != "found"}
        streams = {command: list(lines) for command, lines in self.streams.items()}
        return dict(value, found=list(self.found), streams=streams)

    @classmethod
    def from_json(cls, value: Any, where: str = "recording") -> "Recording":
        """Return the recording in a report of somebody else.

        Raises:
            InvalidRequest: It is not valid; it could write outside of the folder in which it is replayed.
        """
        recording = cls(**json_reader.read_object(value, _RECORDING, where))
        for path in (*recording.files, *recording.later, *recording.found, *recording.links, *recording.links.values()):
            is_plain = path.startswith("/") and not path.startswith("//") and posixpath.normpath(path) == path
            if not is_plain or len(path) > _PATH_MAX or "\0" in path:
                raise InvalidRequest(f"{where}: {path[:80]!r} is not a plain absolute path")
        return recording


_text = json_reader.long_text(TEXT_MAX)
_RECORDING = {
    "files": json_reader.mapping(_text),
    "later": json_reader.mapping(_text),
    "found": json_reader.sequence(json_reader.text, 1 << 14),
    "links": json_reader.mapping(json_reader.text),
    "commands": json_reader.mapping(_text),
    "streams": json_reader.mapping(json_reader.sequence(_text, LINES_MAX)),
    "reasons": json_reader.mapping(json_reader.text),
}


class Recorder:
    """Keeps what is read through `system`, which is that of `original`."""

    def __init__(self, original: System) -> None:
        self._files: Dict[str, str] = {}
        self._later: Dict[str, str] = {}
        self._found: Dict[str, None] = {}
        self._links: Dict[str, str] = {}
        self._commands: Dict[str, str] = {}
        self._streams: Dict[str, List[str]] = {}
        self._reasons: Dict[str, str] = {}
        self.system = self._recorded(original)

    def recording(self) -> Recording:
        """Return what was read so far."""
        return Recording(
            dict(self._files),
            dict(self._later),
            tuple(sorted(self._found)),
            dict(self._links),
            dict(self._commands),
            {command: tuple(lines) for command, lines in self._streams.items()},
            {name: reason for name, reason in self._reasons.items() if name not in self._files},
        )

    def _recorded(self, original: System) -> System:
        recorder = self

        class RecordedSystem(System):
            """Copies of it record too, because its class knows the recorder."""

            def read(self, path: str) -> Reading:
                return recorder._read(path, super().read(path))

            def glob(self, pattern: str) -> List[str]:
                paths = super().glob(pattern)
                recorder._found.update(dict.fromkeys(paths))
                return paths

            def real(self, path: str) -> Optional[str]:
                target = super().real(path)
                if target is not None:
                    inside = "/" + os.path.relpath(target, os.path.realpath(self.root))
                    recorder._links.setdefault(path, inside)
                return target

        def run(argv: Sequence[str]) -> Output:
            return recorder._ran(argv, original.run(argv))

        def stream(argv: Sequence[str], on_line: Callable[[str], None]) -> Stream:
            lines = recorder._streams.setdefault(_line(argv), [])

            def keep(line: str) -> None:
                if len(lines) < LINES_MAX:
                    lines.append(line[:TEXT_MAX])
                on_line(line)

            return original.stream(argv, keep)

        return RecordedSystem(*original._replace(run=run, stream=stream))

    def _read(self, path: str, reading: Reading) -> Reading:
        if reading.text is None:
            self._reasons.setdefault(path, str(reading.reason))
            return reading
        text = _SERIAL.sub("", reading.text)[:TEXT_MAX]
        if self._files.setdefault(path, text) != text:
            self._later[path] = text
        return reading

    def _ran(self, argv: Sequence[str], output: Output) -> Output:
        if output.reason is None:
            self._commands.setdefault(_line(argv), output.stdout[:TEXT_MAX])
        else:
            self._reasons.setdefault(_line(argv), output.reason)
        return output


def replay(recording: Recording, folder: str) -> System:
    """Return a system that is read as the recorded one was.

    Args:
        recording: What was read.
        folder: An empty folder, to which its files are written. An agent whose `config.json` names it as the `root` of
            an emulation is that board too.

    Returns:
        The system. Whoever sleeps on it finds afterwards the files as they were read last.
    """
    tree = DeviceTree(folder)
    for path, text in recording.files.items():
        tree.write(path, text)
    for command, stdout in recording.commands.items():
        tree.command([command], stdout.rstrip("\n"))
    for path, target in recording.links.items():
        _link(folder, path, target)
    for path in recording.found:
        if not os.path.lexists(os.path.join(folder, path.lstrip("/"))):
            os.makedirs(os.path.join(folder, path.lstrip("/")))
    system = emulated_system(EmulationConfig(1.0, folder), folder)

    def sleep(seconds: float) -> None:
        for path, text in recording.later.items():
            tree.write(path, text)
        system.sleep(seconds)

    def stream(argv: Sequence[str], on_line: Callable[[str], None]) -> Stream:
        for line in recording.streams.get(_line(argv), ()):
            on_line(line)
        return NoStream(argv, on_line)

    return system._replace(sleep=sleep, stream=stream)


def _link(folder: str, path: str, target: str) -> None:
    """Make a link inside of the folder, unless the path is a file or a folder there already."""
    here, there = (os.path.join(folder, name.lstrip("/")) for name in (path, target))
    if path != target and not os.path.lexists(here):
        os.makedirs(there, exist_ok=True)
        os.makedirs(os.path.dirname(here), exist_ok=True)
        os.symlink(there, here)


def _line(argv: Sequence[str]) -> str:
    return " ".join(argv)
