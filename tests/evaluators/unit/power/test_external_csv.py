"""CSV files of meters outside the device: headers, units, clocks, and invalid content."""

import os

import pytest

from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.external_csv import ExternalCsvMeter, parse_date
from vitsearch_agent.testing import PowerMeterTestCase

PATH = "/data/meter.csv"
INA219 = {
    "path": PATH,
    "clock": "wall",
    "time": {"column": "TimeStamp", "unit": "s"},
    "volts": {"column": ["U", "Voltage (V)"], "unit": "V"},
    "amperes": {"column": "Current (mA)", "unit": "mA"},
}
HEADER = "TimeStamp, Voltage (V), Current (mA), Power (mW)\n"
WATTS = {
    "path": PATH,
    "clock": "monotonic",
    "time": {"column": "t", "unit": "s"},
    "watts": {"column": "P", "unit": "W"},
}


class Logger:
    """Appends to the file as a meter's program does."""

    def __init__(self, device, header=HEADER):
        self.device = device
        self.path = device.system.at(PATH)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.say(header)

    def say(self, text):
        with open(self.path, "a") as stream:
            stream.write(text)

    def ina219(self, volts=5.0, milliamperes=400.0):
        moment = self.device.system.wall()
        self.say(f"{moment:.3f},{volts:.3f},{milliamperes:.3f},{volts * milliamperes:.3f}\n")


def recorded(device, options, text, start=1000.0, end=1010.0):
    """Return the series of the rows appended while the meter runs, or None and the reason."""
    meter = ExternalCsvMeter(device.system, options)
    meter.start()
    Logger(device, text)
    device.now_s = end
    series = meter.recorded(start, end)
    values = None if series is None else [(series.times_s[i], series.values[i]) for i in range(len(series.times_s))]
    return values, meter.problem


class TestExternalCsv(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        self.logger = Logger(device)
        self.logger.ina219()

    def make_meter(self):
        return ExternalCsvMeter(self.device.system, INA219)

    def make_missing_meter(self):
        return ExternalCsvMeter(self.other.system, INA219)

    def advance(self):
        self.device.wait(0.02)
        self.logger.ina219()


def test_power_is_volts_times_amperes_at_the_devices_time(device):
    logger = Logger(device)
    logger.ina219(milliamperes=100.0)
    meter = ExternalCsvMeter(device.system, INA219)
    meter.start()
    for _ in range(3):
        device.wait(1.0)
        logger.ina219(milliamperes=400.0)
    series = meter.recorded(1000.0, 1003.0)
    assert list(series.times_s) == pytest.approx([1001.0, 1002.0, 1003.0])
    assert list(series.values) == pytest.approx([2.0, 2.0, 2.0])
    assert not series.counts


def test_rows_from_before_the_start_are_ignored(device):
    Logger(device, "t,P\n1000.1,9\n1000.2,9\n")
    meter = ExternalCsvMeter(device.system, WATTS)
    meter.start()
    Logger(device, "1000.3,5\n1011,5\n")
    assert list(meter.recorded(1000.0, 1010.0).values) == [5.0, 5.0]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("\ufefft,P", "1001,2.5"),
        ("  T ; p  ", "1001;2,5"),
        ("# my meter\n\nserial,12\nP,x,T", "2.5,?,1001"),
        ('"t","note, long","P"', '1001,"a, b",2.5'),
        ("t\tP\r", "1001\t2.5\r"),
    ],
    ids=["byte order mark", "semicolons, case and decimal comma", "lines before, other order", "quotes", "tabs, CRLF"],
)
def test_header_and_row_formats_are_understood(device, header, row):
    delimiter = next(mark for mark in (";", "\t", ",") if mark in header)
    options = dict(WATTS, delimiter=delimiter, decimal="," if delimiter == ";" else ".")
    assert recorded(device, options, f"{header}\n{row}\n")[0] == [(1001.0, 2.5)]


@pytest.mark.parametrize(
    ("time_unit", "watt_unit", "row"),
    [
        ("s", "W", "1001.5,2.5"),
        ("ms", "mW", "1001500,2500"),
        ("us", "uW", "1001500000,2500000"),
        ("ns", "W", "1001500000000,2.5e0"),
    ],
)
def test_units_come_from_the_configuration(device, time_unit, watt_unit, row):
    options = dict(WATTS, time={"column": "t", "unit": time_unit}, watts={"column": "P", "unit": watt_unit})
    assert recorded(device, options, f"t,P\n{row}\n")[0] == [(pytest.approx(1001.5), pytest.approx(2.5))]


def test_invalid_rows_are_ignored(device):
    rows = [
        "",
        "garbage",
        "1001",
        "1001,",
        ",2.5",
        "nan,2",
        "1001,inf",
        "x,2",
        "1002,0x5",
        "1003,2.5",
        "1003,9",
        "1002,9",
    ]
    values, _ = recorded(device, WATTS, "t,P\n" + "\n".join(rows) + "\n1004,2.5\n1005,9")
    assert values == [(1003.0, 2.5), (1004.0, 2.5)]


def test_bytes_that_are_not_text_are_ignored(device):
    meter = ExternalCsvMeter(device.system, WATTS)
    meter.start()
    logger = Logger(device, "t,P\n1001,2.5\n")
    with open(logger.path, "ab") as stream:
        stream.write(b"\x00\xff\xfe\x00,\x00\n" + b"," * 20000 + b"\n1002,2.5\n")
    device.now_s = 1010.0
    assert list(meter.recorded(1000.0, 1010.0).times_s) == [1001.0, 1002.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,P\n1001,2.5\n", "no header with the columns"),
        ("", "no header with the columns"),
        ("t,P\n", "has no row from the time of the load"),
        ("t,P\n500,2.5\n2000,2.5\n", "has no row from the time of the load"),
        ("t,P\n1001,9e99\n1002,-6000\n", "has no row from the time of the load"),
    ],
)
def test_a_file_without_usable_rows_gives_a_reason(device, text, reason):
    values, problem = recorded(device, WATTS, text)
    assert values is None
    assert reason in problem


def test_setting_the_wall_clock_during_the_load_gives_a_reason(device):
    logger = Logger(device)
    meter = ExternalCsvMeter(device.system, INA219)
    meter.start()
    for _ in range(10):
        device.wait(1.0)
        logger.ina219()
    device.wall_ahead_s += 1.5
    assert meter.recorded(1000.0, 1010.0) is None
    assert "was set by +1.500 s during the load" in meter.problem


def test_setting_the_wall_clock_does_not_affect_monotonic_times(device):
    Logger(device, "t,P\n")
    meter = ExternalCsvMeter(device.system, WATTS)
    meter.start()
    Logger(device, "1005,2.5\n")
    device.wall_ahead_s += 1.5
    assert list(meter.recorded(1000.0, 1010.0).values) == [2.5]


def test_rows_of_a_buffering_logger_are_awaited(device):
    logger = Logger(device, "t,P\n")
    meter = ExternalCsvMeter(
        device.system._replace(sleep=lambda seconds: (device.wait(seconds), logger.say("1005,2.5\n1010.1,2.5\n"))),
        WATTS,
    )
    meter.start()
    assert list(meter.recorded(1000.0, 1010.0).times_s) == [1005.0, 1010.1]
    assert device.now_s == 1000.25


def test_a_stopped_logger_is_unavailable(device):
    logger = Logger(device)
    logger.ina219()
    device.wait(3600.0)
    assert "is 3600 s old by the wall clock" in ExternalCsvMeter(device.system, INA219).available().reason


def test_the_rest_of_an_overlong_row_is_ignored(device):
    logger = Logger(device, "t,P\n" + "9" * 9000)
    meter = ExternalCsvMeter(device.system, WATTS)
    meter.start()
    logger.say("9" * 9000 + "1001,2.5\n1002,2.5\n")
    device.now_s = 1010.0
    assert list(meter.recorded(1000.0, 1010.0).times_s) == [1002.0]


def test_a_replaced_file_is_read_from_its_start(device):
    logger = Logger(device, "t,P\n" + "999,1\n" * 50)
    meter = ExternalCsvMeter(device.system, WATTS)
    meter.start()
    os.remove(logger.path)
    Logger(device, "t,P\n1001,2.5\n")
    assert list(meter.recorded(1000.0, 1010.0).values) == [2.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": None}, "external_csv needs path"),
        ({"clock": None, "time": None}, "external_csv needs clock, time"),
        ({"watts": None}, "either volts and amperes, or watts"),
        ({"volts": {"column": "U", "unit": "V"}}, "either volts and amperes, or watts"),
        ({"clock": "gps"}, "power.options.clock: 'gps' is not one of 'wall', 'monotonic'"),
        ({"time": {"column": "t", "unit": "h"}}, "power.options.time.unit: 'h' is not one of"),
        ({"time": {"column": "t"}}, "power.options.time: missing unit"),
        ({"watts": {"column": 3, "unit": "W"}}, "power.options.watts.column: expected a list"),
        ({"time": {"column": "t", "unit": "utc"}}, "dates need the wall clock"),
        ({"scope": "house"}, "power.options.scope"),
    ],
)
def test_a_wrong_option_is_refused_by_key(device, changes, message):
    options = {key: value for key, value in dict(WATTS, **changes).items() if value is not None}
    with pytest.raises(InvalidRequest) as caught:
        ExternalCsvMeter(device.system, options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02 00:00:01", 86401.0),
        ("1970-01-02T00:00:01.250Z", 86401.25),
        ("1970-01-02T01:00:01+01:00", 86401.0),
        ("1970-01-01 22:30:01,5 -0130", 86401.5),
        ("2026-11-25T14:03:07.25Z", 1795615387.25),
        ("1970-13-02 00:00:01", None),
        ("1970-01-02 25:00:01", None),
        ("1970-01-02", None),
        ("02.01.1970 00:00:01", None),
        ("", None),
    ],
)
def test_dates_are_parsed(text, seconds):
    assert parse_date(text, utc=True) == seconds


def test_a_date_without_a_zone_can_be_local_time():
    utc, local = parse_date("2026-06-25 12:00:00", True), parse_date("2026-06-25 12:00:00", False)
    assert abs(utc - local) <= 14 * 3600
    assert parse_date("2026-06-25 12:00:00Z", False) == utc
