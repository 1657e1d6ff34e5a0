"""Any output of a tool and any file gives a value or a reason, never an exception and never a wrong number."""

import math
import os

import pytest

from vitsearch_agent.base.system import NoStream, System, parse_number
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.power import rails
from vitsearch_agent.power.base import MAX_W
from vitsearch_agent.power.battery import BatteryMeter, parse_dumpsys
from vitsearch_agent.power.external_csv import ExternalCsvMeter, parse_date
from vitsearch_agent.power.ina3221 import Ina3221Meter
from vitsearch_agent.power.pi_pmic import parse_adc
from vitsearch_agent.power.rapl import RaplMeter
from vitsearch_agent.power.tegrastats import parse_line

hypothesis = pytest.importorskip("hypothesis")
given, strategies = hypothesis.given, hypothesis.strategies
settings = hypothesis.settings(deadline=None)
slow_settings = hypothesis.settings(
    deadline=None, max_examples=50, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)

LABELS = strategies.sampled_from(
    ["VDD_IN", "POM_5V_IN", "VIN", "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "NC", "RAM"]
)
UNITS = strategies.sampled_from(["", "mW"])
CONTENTS = strategies.one_of(
    strategies.integers(-(10**6), 10**13).map(str),
    strategies.sampled_from(
        ["", "nan", "inf", "1e400", "0x1f", "1 2", "-0", "1_000", "Discharging", "Charging", "package-0", "dram"]
    ),
    strategies.text(max_size=12),
)


@given(text=strategies.text())
@settings
def test_a_number_is_finite_or_none(text):
    number = parse_number(text)
    assert number is None or math.isfinite(number)


@given(
    rails_now=strategies.lists(strategies.tuples(LABELS, strategies.integers(-500, 10**6), UNITS), max_size=8),
    noise=strategies.lists(strategies.text(max_size=10), min_size=9, max_size=9),
    cut=strategies.integers(0, 400),
)
@settings
def test_a_truncated_line_gives_complete_numbers_or_none(rails_now, noise, cut):
    words = [f"{label} {value}{unit}/{value + 7}{unit}" for label, value, unit in rails_now]
    line = " ".join(part for index, part in enumerate(noise) for part in (part, *words[index : index + 1]))
    written = {(label, float(value)) for label, value, _ in rails_now}
    for text in (line, line[:cut]):
        pairs = {(label, value) for label, value in parse_line(text).powers_mw.items() if label in dict(written)}
        assert pairs <= written | {pair for pair in pairs if any(pair[0] in word for word in noise)}


@given(text=strategies.text())
@settings
def test_any_line_is_read_without_an_exception(text):
    line = parse_line(text)
    chosen = rails.choose(line.powers_mw)
    assert bool(chosen.labels) == (chosen.reason is None)


PMIC = [
    "  VDD_CORE_A current(7)=0.94657990A",
    "   3V3_SYS_A current(1)=0.04782057A",
    "  VDD_CORE_V volt(15)=0.72097620V",
    "   3V3_SYS_V volt(9)=3.29982600V",
    "     EXT5V_V volt(24)=5.11478000V",
]
PMIC_WATTS = {"VDD_CORE": 0.9465799 * 0.7209762, "3V3_SYS": 0.04782057 * 3.299826}


@given(order=strategies.permutations(PMIC), cut=strategies.integers(0, 200), noise=strategies.text(max_size=20))
@settings
def test_a_reading_of_the_pmic_has_complete_rails_or_none(order, cut, noise):
    text = "\n".join(order)
    assert parse_adc(text) == (pytest.approx(PMIC_WATTS), None)
    for broken in (text[:cut], text[cut:], noise + text, text + noise, noise):
        watts, reason = parse_adc(broken)
        assert bool(watts) == (reason is None)
        assert all(value == pytest.approx(PMIC_WATTS[rail]) for rail, value in watts.items())


@given(text=strategies.text(), cut=strategies.integers(0, 400))
@settings
def test_dumpsys_is_a_charge_or_a_reason(text, cut):
    whole = (
        "Current Battery Service state:\n  AC powered: false\n  Charge counter: 3270000\n  status: 3\n"
        "  voltage: 4352\n  technology: Li-ion\n"
    )
    for printed in (text, whole[:cut], whole + text, text + "\n" + whole):
        charge = parse_dumpsys(printed)
        if charge.reason is None:
            assert (charge.coulombs, charge.volts) == (pytest.approx(11772.0), 4.352)


@given(text=strategies.text(), utc=strategies.booleans())
@settings
def test_a_date_is_seconds_or_none(text, utc):
    seconds = parse_date(text, utc)
    assert seconds is None or math.isfinite(seconds)


TREES = {
    Ina3221Meter: [
        f"/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/{name}"
        for name in ("name", "in1_label", "in1_input", "curr1_input", "in1_enable", "in2_label", "in7_label")
    ]
    + [f"/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/{name}" for name in ("rail_name_0", "in_power0_input")],
    RaplMeter: [
        f"/sys/class/powercap/{zone}/{name}"
        for zone in ("intel-rapl:0", "intel-rapl:0:0")
        for name in ("name", "energy_uj", "max_energy_range_uj")
    ],
    BatteryMeter: [
        f"/sys/class/power_supply/BAT0/{name}" for name in ("type", "status", "power_now", "current_now", "voltage_now")
    ],
}


@pytest.mark.parametrize("kind", list(TREES))
@given(data=strategies.data())
@slow_settings
def test_any_tree_gives_a_value_or_a_reason(tmp_path, kind, data):
    root = str(tmp_path / str(len(os.listdir(str(tmp_path)))))
    tree = DeviceTree(root)
    for path in TREES[kind]:
        content = data.draw(CONTENTS | strategies.none(), path)
        if content is not None:
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            with open(root + path, "wb") as stream:
                stream.write(content.encode("utf-8", "surrogatepass"))
    assert tree.root == root
    meter = kind(System(root, stream=NoStream))
    state = meter.available()
    assert state.available == (state.reason is None)
    meter.start()
    sample = meter.sample()
    if sample is None:
        assert meter.problem
    else:
        value = sample.energy_j if sample.power_w is None else sample.power_w
        assert 0 <= value <= (MAX_W if sample.energy_j is None else math.inf)
        assert math.isfinite(value)
    meter.stop()


@given(rows=strategies.lists(strategies.binary(max_size=40) | strategies.just(b"1001,2.5\n"), max_size=12))
@slow_settings
def test_any_file_of_a_logger_gives_a_series_or_a_reason(tmp_path, rows):
    path = str(tmp_path / "meter.csv")
    with open(path, "wb") as stream:
        stream.write(b"t,P\n" + b"".join(rows))
    clock = iter(range(1000, 10**6))
    system = System(clock=lambda: float(next(clock)), sleep=lambda _: None)
    options = {
        "path": path,
        "clock": "monotonic",
        "time": {"column": "t", "unit": "s"},
        "watts": {"column": "P", "unit": "W"},
    }
    meter = ExternalCsvMeter(system, options)
    meter.available()
    series = meter.recorded(1000.0, 1010.0)
    assert series is not None or meter.problem
    if series is not None:
        assert all(math.isfinite(value) for value in series.values)
        assert list(series.times_s) == sorted(set(series.times_s))
