"""An external meter (at the wall or in the supply) whose program writes a CSV file on this device.

config.json names the columns with their units, and the clock of the times. The times must be those of this
device's clock, because they are compared with the times of the load: the logger must run on this device.

    {"power": {"meter": "external_csv", "options": {
        "path": "/var/log/meter.csv", "clock": "wall", "scope": "system",
        "time":    {"column": "TimeStamp", "unit": "s"},
        "volts":   {"column": ["Voltage (V)", "Voltage"], "unit": "V"},
        "amperes": {"column": "Current (mA)", "unit": "mA"}}}}

`watts` can replace `volts` and `amperes`. Column names are compared without case and with single spaces. Time
units: `s`, `ms`, `us`, `ns`, or `utc` and `local` for dates such as 2026-11-25 14:03:07.25 (a zone in the date
takes precedence).
"""

import array
import csv
import datetime
import os
import re
import time
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import System, parse_number
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.base import MAX_W, SCOPES, MeterAvailability, PowerMeter, Sample, Series

_HEADER_LINES = 64
_TAIL_BYTES = 4096
_LINE_BYTES = 4096
_MARGIN_S = 2.0
_POLL_S = 0.25
_JUMP_S = 0.05
_SLEW = 500e-6  # the largest rate at which a daemon corrects a clock gradually (adjtime: 500 ppm)
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})?\Z"
)
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "utc": 0.0, "local": 0.0}
_UNITS = {
    "time": _TIME_UNITS,
    "volts": {"V": 1.0, "mV": 1e-3, "uV": 1e-6},
    "amperes": {"A": 1.0, "mA": 1e-3, "uA": 1e-6},
    "watts": {"W": 1.0, "mW": 1e-3, "uW": 1e-6},
}


class Column(NamedTuple):
    """The possible names of a column in the header, and its unit."""

    names: Tuple[str, ...]
    unit: str


def _one_of(choices: Any) -> json_reader.Reader:
    def read(value: Any, where: str) -> Any:
        if value not in choices:
            raise InvalidRequest(f"{where}: {value!r} is not one of {', '.join(map(repr, choices))}")
        return value

    return read


def _names(value: Any, where: str) -> Tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    return tuple(_normal(name) for name in json_reader.sequence(json_reader.text, 16)(names, where))


def _column(kind: str) -> json_reader.Reader:
    readers = {"column": _names, "unit": _one_of(sorted(_UNITS[kind]))}

    def read(value: Any, where: str) -> Column:
        fields = json_reader.read_object(value, readers, where)
        return Column(fields["column"], fields["unit"])

    return read


class ExternalCsvMeter(PowerMeter):
    """Reads the rows that another program writes; option `wait_s` is how long a logger may buffer its rows."""

    name = "external_csv"
    scope = "system"
    records_itself = True
    option_readers = dict(
        {kind: _column(kind) for kind in _UNITS},
        path=json_reader.text,
        clock=_one_of(("wall", "monotonic")),
        scope=_one_of(SCOPES),
        delimiter=_one_of((",", ";", "\t", " ")),
        decimal=_one_of((".", ",")),
        wait_s=json_reader.number(0, 60),
    )

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(system, options)
        missing = [key for key in ("path", "clock", "time") if key not in self.options]
        if missing:
            raise InvalidRequest(f"power.options: external_csv needs {', '.join(missing)}")
        quantities = tuple(kind for kind in ("volts", "amperes", "watts") if kind in self.options)
        if quantities not in (("volts", "amperes"), ("watts",)):
            raise InvalidRequest("power.options: external_csv needs either volts and amperes, or watts")
        dates = self.options["time"].unit in ("utc", "local")
        if dates and self.options["clock"] == "monotonic":
            raise InvalidRequest("power.options.clock: dates need the wall clock, got 'monotonic'")
        self.scope = self.options.get("scope", "system")
        self._quantities = quantities
        self._path = system.at(self.options["path"])
        self._wait_s = self.options.get("wait_s", 5.0)
        self._start_offset = 0
        self._wall_ahead_s = 0.0

    def available(self) -> MeterAvailability:
        self.start()
        newest = self._newest()
        if newest is None:
            return MeterAvailability(False, self.problem or f"{self._path} has no row yet")
        age_s = self.system.clock() - newest.time_s
        limit_s = 10.0 + self._wait_s
        if not -_MARGIN_S <= age_s <= limit_s:
            age = f"{abs(age_s):.0f} s {'old' if age_s > 0 else 'in the future'}"
            reason = f"the last row of {self._path} is {age} by the {self.options['clock']} clock"
            return MeterAvailability(False, reason)
        return MeterAvailability(True, None)

    def start(self) -> None:
        """Record the end of the file: only rows written from now on are read."""
        self.problem = None
        self._wall_ahead_s = self.system.wall() - self.system.clock()
        try:
            self._start_offset = os.path.getsize(self._path)
        except OSError as error:
            self._start_offset = 0
            self.problem = f"{self._path} cannot be read: {error.strerror}"

    def sample(self) -> Optional[Sample]:
        return self._newest()

    def recorded(self, start_s: float, end_s: float) -> Optional[Series]:
        """Wait until the file has rows up to `end_s`, at most `wait_s` seconds, and return the rows."""
        give_up = self.system.clock() + self._wait_s
        while self.system.clock() < give_up:
            newest = self._newest()
            if newest is not None and newest.time_s >= end_s:
                break
            self.system.sleep(_POLL_S)
        moved_s = self.system.wall() - self.system.clock() - self._wall_ahead_s
        if self.options["clock"] == "wall" and abs(moved_s) > _JUMP_S + _SLEW * (end_s - start_s):
            self.problem = f"the wall clock, which the file's times use, was set by {moved_s:+.3f} s during the load"
            return None
        self.problem = None
        series = Series(array.array("d"), array.array("d"), counts=False)
        last_s = start_s - _MARGIN_S
        for row in self._rows(self._start_offset):
            # A row whose time does not increase was written twice.
            if last_s < row.time_s <= end_s + _MARGIN_S and row.power_w is not None:
                last_s = row.time_s
                series.times_s.append(row.time_s)  # type: ignore[attr-defined]
                series.values.append(row.power_w)  # type: ignore[attr-defined]
        if not series.times_s:
            self.problem = self.problem or f"{self._path} has no row from the time of the load"
            return None
        return series

    def _newest(self) -> Optional[Sample]:
        newest = None
        try:
            size = os.path.getsize(self._path)
        except OSError as error:
            self.problem = f"{self._path} cannot be read: {error.strerror}"
            return None
        for row in self._rows(max(0, size - _TAIL_BYTES)):
            newest = row
        return newest

    def _rows(self, offset: int) -> Iterator[Sample]:
        """Yield the complete and valid rows after `offset`; a file shorter than `offset` is new and read whole."""
        try:
            with open(self._path, "rb") as stream:
                columns = self._header(stream.readline)
                if columns is None:
                    self.problem = f"{self._path} has no header with the columns of power.options"
                    return
                begin = stream.tell()
                end = stream.seek(0, os.SEEK_END)
                if begin < offset <= end:
                    stream.seek(offset - 1)
                    begins = False  # the file position is probably inside a row
                else:
                    stream.seek(begin)
                    begins = True
                for line in _whole_lines(stream, begins):
                    row = self._row(self._fields(line), columns)
                    if row is not None:
                        yield row
        except OSError as error:
            self.problem = f"{self._path} cannot be read: {error.strerror}"

    def _header(self, read_line: Callable[[int], bytes]) -> Optional[Dict[str, int]]:
        """Return the column index of each quantity, from the first line that names all of them; None without one."""
        for _ in range(_HEADER_LINES):
            names = [_normal(field) for field in self._fields(read_line(_LINE_BYTES))]
            columns = {}
            for kind in ("time",) + self._quantities:
                indices = [names.index(name) for name in self.options[kind].names if name in names]
                if indices:
                    columns[kind] = indices[0]
            if len(columns) == len(self._quantities) + 1:
                return columns
        return None

    def _fields(self, line: bytes) -> List[str]:
        text = line.decode("utf-8-sig", "replace").strip("\r\n")
        try:
            return next(csv.reader([text], delimiter=self.options.get("delimiter", ","), skipinitialspace=True), [])
        except csv.Error:
            return []

    def _row(self, fields: List[str], columns: Mapping[str, int]) -> Optional[Sample]:
        if len(fields) <= max(columns.values()):
            return None
        moment = self._time_s(fields[columns["time"]])
        numbers = [self._number(kind, fields[columns[kind]]) for kind in self._quantities]
        if moment is None or None in numbers:
            return None
        product = 1.0
        for number in numbers:
            product *= number or 0.0
        # The meter's offset can make the power slightly negative; a power beyond any device is an invalid row.
        return Sample(moment, product) if abs(product) <= MAX_W else None

    def _number(self, kind: str, text: str) -> Optional[float]:
        number = parse_number(text.replace(self.options.get("decimal", "."), "."))
        return None if number is None else number * _UNITS[kind][self.options[kind].unit]

    def _time_s(self, text: str) -> Optional[float]:
        """Return the monotonic time of a row, None if it is invalid."""
        unit = self.options["time"].unit
        dates = unit in ("utc", "local")
        moment = parse_date(text.strip(), unit == "utc") if dates else self._number("time", text)
        if moment is None or self.options["clock"] == "monotonic":
            return moment
        return moment - self._wall_ahead_s


def _whole_lines(stream: BinaryIO, begins: bool) -> Iterator[bytes]:
    """Yield complete lines; a line that is still being written or exceeds _LINE_BYTES is left out."""
    while True:
        line = stream.readline(_LINE_BYTES)
        ends = line.endswith(b"\n")
        if begins and ends:
            yield line
        if not line:
            return
        begins = ends


def parse_date(text: str, utc: bool) -> Optional[float]:
    """Return the Unix time of an ISO 8601 date, None for other text; without a zone it is UTC or local time."""
    match = _DATE.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        date = datetime.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
        if zone is None and not utc:
            whole = time.mktime(date.timetuple())
        else:
            whole = (date - datetime.datetime(1970, 1, 1)).total_seconds() - _offset_s(zone)
    except (ValueError, OverflowError):
        return None
    return whole + (float("0." + fraction) if fraction else 0.0)


def _offset_s(zone: Optional[str]) -> float:
    if zone is None or zone == "Z":
        return 0.0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600.0 + int(zone[-2:]) * 60.0)


def _normal(name: str) -> str:
    return " ".join(name.split()).lower()
