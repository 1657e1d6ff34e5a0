"""NVIDIA's `tegrastats` on a Jetson, for use where the rails cannot be read as files (in a container).

A rail is printed as `NAME NOW/MEAN` in milliwatts, with the unit or (JetPack 4) without; JetPack 7 adds a third
number. NOW is the current power, MEAN the mean since the tool started: only NOW is used.

    JetPack 4   POM_5V_IN 2132/2132 POM_5V_GPU 78/78
    JetPack 6   VDD_IN 5251mW/8535mW
    JetPack 7   VDD_GPU 4925mW/4925mW/4925mW
"""

import re
from typing import Any, Dict, Mapping, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import Stream, System
from vitsearch_agent.power import rails
from vitsearch_agent.power.base import MeterAvailability, MeterValue, PowerMeter, Sample

_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?[0-9]{1,9})(?:mW)?(?:/-?[0-9]{1,9}(?:mW)?){1,2}(?=\s|\Z)")
_FIRST_LINE_S = 5.0
_POLL_S = 0.05


class Line(NamedTuple):
    """The rails of one line in milliwatts, and the counts of those that appear more than once."""

    powers_mw: Mapping[str, float]
    duplicates: Mapping[str, int]


class TegrastatsMeter(PowerMeter):
    """The power of a Jetson. Options: `rails`; `tool`, the path of tegrastats; `interval_ms` between its lines."""

    name = "tegrastats"
    scope = "module"
    rate_hz = 5.0
    option_readers = dict(rails.OPTION_READERS, tool=json_reader.text, interval_ms=json_reader.integer(20, 10000))

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(system, options)
        interval_ms = self.options.get("interval_ms", 200)
        self.rate_hz = 1e3 / interval_ms
        self._argv = [self.options.get("tool", "tegrastats"), "--interval", str(interval_ms)]
        self._stream: Optional[Stream] = None
        self._latest: Optional[Sample] = None
        self._chosen: Optional[rails.RailChoice] = None

    def available(self) -> MeterAvailability:
        """Start the tool and wait for its first line with a total."""
        self.start()
        try:
            end = self.system.clock() + _FIRST_LINE_S
            while self._latest is None and self._alive() and self.system.clock() < end:
                self.system.sleep(_POLL_S)
            return MeterAvailability(
                self._latest is not None, None if self._latest is not None else self._problem_text()
            )
        finally:
            self.stop()

    def start(self) -> None:
        self._latest = self._chosen = self.problem = None
        self._stream = self.system.stream(self._argv, self._on_line)

    def sample(self) -> Optional[Sample]:
        """Return the value of the newest line, with the time at which the line arrived."""
        if self._alive():
            return self._latest
        self.problem = self._problem_text()
        return None

    def stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _on_line(self, text: str) -> None:
        moment = self.system.clock()
        line = parse_line(text)
        # The first line with a total decides which rails are added up for all lines.
        chosen = self._chosen or rails.choose(line.powers_mw, self.options.get("rails"))
        value = MeterValue(None, chosen.reason) if chosen.reason is not None else _total(line, chosen)
        if value.number is not None and self._chosen is None:
            wrong = rails.mislabelled(value.number, chosen, line.powers_mw)
            value = value if wrong is None else MeterValue(None, wrong)
        self.problem = value.reason
        if value.number is not None:
            self._chosen, self.scope = chosen, chosen.scope
            self._latest = Sample(moment, value.number)

    def _alive(self) -> bool:
        return self._stream is not None and self._stream.ended() is None

    def _problem_text(self) -> str:
        ended = self._stream.ended() if self._stream is not None else "not started"
        return self.problem or ended or f"{self._argv[0]} printed no line within {_FIRST_LINE_S:g} s"


def parse_line(text: str) -> Line:
    """Parse the rails of a line; all other text, such as a truncated entry, is ignored."""
    powers_mw: Dict[str, float] = {}
    counts: Dict[str, int] = {}
    for match in _RAIL.finditer(text):
        label = match.group(1)
        powers_mw[label] = float(match.group(2))
        counts[label] = counts.get(label, 0) + 1
    return Line(powers_mw, {label: count for label, count in counts.items() if count > 1})


def _total(line: Line, chosen: rails.RailChoice) -> MeterValue:
    duplicates = sorted(set(chosen.labels) & set(line.duplicates))
    if duplicates:
        return MeterValue(None, f"{', '.join(duplicates)} appears twice in one line")
    return rails.total_w(line.powers_mw, chosen.labels)
