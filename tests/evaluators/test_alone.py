from vitsearch_evaluators import alone
from vitsearch_evaluators.config import PowerConfig
from vitsearch_evaluators.measurement import Power


def test_who_waits_is_told_why(capsys):
    alone.say("cooling", until_c=45.0, at_most_s=300)
    assert capsys.readouterr().err == "vitsearch-agent: cooling (until_c 45.0, at_most_s 300)\n"


def test_the_summary_says_what_was_not_measured_and_why(blob, tiny_protocol, monkeypatch):
    monkeypatch.setattr(alone.procs, "adopt_orphans", lambda: None)  # not for the process that runs all tests
    asked = tiny_protocol._replace(soak_s=0.1, power_s=0.1)
    found = alone.measure_file(blob, "noop", ["busy_us=10"], asked, PowerConfig("none"))
    lines = alone.summary(found).splitlines()
    assert any(line.startswith("sustained_p50   0.0") and line.endswith("(after 0.1 s of load)") for line in lines)
    assert any(line.startswith("power           not measured: ") for line in lines)
    reasons = {"throughput_ips": "no flag for 2 streams", "sustained": "no soak", "power": "idle is without the model"}
    power = Power(4.5, 2.0, 9.0, 5.0, "ina3221", "module", False, 20.0, 200, 0.1)
    other = found._replace(throughput_ips=None, sustained=None, power=power, reasons=reasons)
    told = [line.split(None, 1) for line in alone.summary(other).splitlines()]
    assert ["throughput_ips", "not measured: no flag for 2 streams"] in told
    assert ["sustained_p50", "not measured: no soak  (after 0.1 s of load)"] in told
    assert ["idle", "is without the model"] in told
