import pytest

from vitsearch_agent import power
from vitsearch_agent.cli import app
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.base import MeterAvailability, PowerMeter, Sample
from vitsearch_agent.power.survey import survey

CHIP = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
ZONE = "/sys/class/powercap/intel-rapl:0"


@pytest.fixture
def board(device, until):
    """An Orin at 5 W with a RAPL counter that does not change, and a clock that counts samples."""
    device.write(f"{CHIP}/name", "ina3221")
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 1000)):
        device.write(f"{CHIP}/{name}", value)
    device.write(f"{ZONE}/name", "package-0")
    device.write(f"{ZONE}/energy_uj", 123456)
    samples = []

    def clock():
        samples.append(len(samples))
        return float(len(samples))

    def sleep(seconds):
        seen = len(samples)
        until(lambda: len(samples) >= seen + 8, "samples of the meter")

    return device.system._replace(clock=clock, sleep=sleep)


class PluginMeter(PowerMeter):
    """A meter of another package; it always reads 0 W."""

    name = "plugin"
    scope = "system"

    def available(self):
        return MeterAvailability(True, None)

    def start(self):
        pass

    def sample(self):
        return Sample(self.system.clock(), power_w=0.0)


class BrokenMeter(PluginMeter):
    def __init__(self, system, options=None):
        raise OSError("no such device")


@pytest.fixture
def plugins(monkeypatch):
    """Two installed meters of another package."""
    meters = dict(power.AUTOMATIC, **power.BY_NAME, plugin=f"{__name__}:PluginMeter", broken=f"{__name__}:BrokenMeter")
    monkeypatch.setattr(power, "table", lambda: meters)


def test_every_meter_has_a_reading_or_a_reason(board, plugins):
    readings = {reading.name: reading for reading in survey(PowerConfig(), board)}
    automatic = ["ina3221", "tegrastats", "pi_pmic", "rapl", "battery"]
    assert list(readings) == [*automatic, "nvml", "android_battery", "external_csv", "plugin", "broken"]
    assert readings["external_csv"].reason.startswith("power.options: external_csv needs path")
    assert readings["plugin"].reason == "its power is 0 W, expected more than 0 and at most 5000 W"
    assert readings["broken"].reason == "OSError: no such device"
    assert readings["ina3221"][1:] == (True, "module", 5.0, None)
    assert readings["rapl"][1:] == (False, "package", None, "its counter did not change for 2 s")
    assert [name for name, reading in readings.items() if reading.in_use] == ["ina3221"]
    assert all(reading.reason for name, reading in readings.items() if name != "ina3221")


def test_the_configured_meter_comes_first_and_is_not_replaced(board):
    readings = survey(PowerConfig("rapl"), board)
    assert readings[0].name == "rapl"
    assert not any(reading.in_use for reading in readings)
    assert not any(reading.in_use for reading in survey(PowerConfig("none"), board))
    with pytest.raises(InvalidRequest, match="did you mean 'rapl'"):
        survey(PowerConfig("rappl"), board)


def test_the_power_command_marks_the_meter_in_use(board, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(app, "THIS_MACHINE", board)
    monkeypatch.setattr(app, "system_of", lambda emulation, state: board)
    assert app.main(["power"]) == 0
    assert "* ina3221          5.000 W (module)\n  tegrastats" in capsys.readouterr().out
    (tmp_path / "config.json").write_text('{"power": {"meter": "rapl"}}')
    assert app.main(["power", "--state", str(tmp_path)]) == 1
    assert "  rapl             its counter did not change" in capsys.readouterr().out
