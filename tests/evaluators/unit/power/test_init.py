import pytest

from vitsearch_agent import power
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.power.external_csv import ExternalCsvMeter

ZONE = "/sys/class/powercap/intel-rapl:0"
CHIP = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def processor(device):
    device.write(f"{ZONE}/name", "package-0")
    device.write(f"{ZONE}/energy_uj", 123456)


def board(device):
    device.write(f"{CHIP}/name", "ina3221")
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 1000)):
        device.write(f"{CHIP}/{name}", value)


def test_names_and_classes_agree(device):
    names = set(power.AUTOMATIC) | set(power.BY_NAME) - {"external_csv"}
    assert {name: power.create(name, device.system).name for name in names} == {name: name for name in names}
    assert ExternalCsvMeter.name == "external_csv"


def test_entry_points_are_added_and_duplicates_refused():
    assert power.table(lambda: [("mine", "a:B")])["mine"] == "a:B"
    with pytest.raises(AgentError, match="power meter 'rapl' is registered twice"):
        power.table(lambda: [("rapl", "a:B")])


def test_an_unknown_meter_suggests_the_nearest_name(device):
    with pytest.raises(InvalidRequest, match="power meter 'ina3321' is unknown; did you mean 'ina3221'"):
        power.create("ina3321", device.system)


def test_the_meter_of_the_board_takes_precedence_over_that_of_the_processor(device):
    processor(device)
    assert power.find(PowerConfig(), device.system).meter.name == "rapl"
    board(device)
    choice = power.find(PowerConfig(), device.system)
    assert (choice.meter.name, choice.reason) == ("ina3221", None)


def test_the_configured_meter_is_used(device):
    processor(device)
    board(device)
    assert power.find(PowerConfig("rapl"), device.system).meter.name == "rapl"
    assert power.find(PowerConfig("none"), device.system).reason == "no power meter: switched off in config.json"


def test_without_a_meter_the_reason_of_each_is_given(device):
    reason = power.find(PowerConfig(), device.system).reason
    for name, message in (
        ("ina3221", "no ina3221 or ina238 with a labelled rail"),
        ("tegrastats", "tegrastats cannot be run"),
        ("rapl", "no /sys/class/powercap/intel-rapl"),
        ("pi_pmic", "vcgencmd cannot be run"),
        ("battery", "no battery in /sys/class/power_supply"),
    ):
        assert f"{name}: {message}" in reason


def test_a_missing_configured_meter_is_not_replaced(device):
    board(device)
    choice = power.find(PowerConfig("rapl"), device.system)
    assert choice.meter is None
    assert choice.reason.startswith("no power meter: rapl: no /sys/class/powercap")
    assert "ina3221" not in choice.reason


def test_wrong_options_are_refused_by_key(device):
    with pytest.raises(InvalidRequest, match="power.options: unknown rail; the keys are rails"):
        power.find(PowerConfig("ina3221", {"rail": "VDD_IN"}), device.system)


def test_an_impossible_configuration_is_refused_at_once(device):
    for config in (PowerConfig(), PowerConfig("none"), PowerConfig("rapl"), PowerConfig("ina3221", {"rails": ["A"]})):
        power.check(config, device.system)
    with pytest.raises(InvalidRequest, match="name it in power.meter"):
        power.check(PowerConfig("auto", {"rails": ["A"]}), device.system)
    with pytest.raises(InvalidRequest, match="did you mean 'rapl'"):
        power.check(PowerConfig("rappl"), device.system)
    with pytest.raises(InvalidRequest, match="external_csv needs path"):
        power.check(PowerConfig("external_csv"), device.system)


def test_a_meter_that_raises_gives_a_reason(device, monkeypatch):
    monkeypatch.setattr("vitsearch_agent.power.rapl.RaplMeter.available", lambda self: 1 / 0)
    assert "rapl: ZeroDivisionError: division by zero" in power.find(PowerConfig("rapl"), device.system).reason
