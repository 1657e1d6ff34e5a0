"""What --json prints has the form that is documented, and every command that prints JSON has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest
import typer
from typer.testing import CliRunner

from support import REPOSITORY, SPACE_FILES
from vitsearch.cli.app import app
from vitsearch.cli.json_forms import FORMS, json_form, page
from vitsearch.errors import UnknownName
from vitsearch.search.check import costs
from vitsearch.search.driver import SearchEnd
from vitsearch.study.retargeted import Fit, Prediction, Retargeted, Target
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED, Check
from vitsearch_agent.verify.verify import Report
from vitsearch_agent.wire.restriction import Restriction

SMALL = str(Path(SPACE_FILES, "small.yaml"))


def printed(*arguments: str, code: int = 0):
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def problems(value, command: str) -> list[str]:
    """What of a value has not the form that is documented for a command."""
    return [error.message for error in jsonschema.Draft202012Validator(json_form(command)).iter_errors(value)]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No device of this user, and no study but those of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(finished) -> str:
    return str(finished.folder / "fake.db")


def test_the_page_is_that_of_the_schemas():
    assert Path(REPOSITORY, "docs", "json.md").read_text() == page(), (
        "run: python -m vitsearch.cli.json_forms > docs/json.md"
    )


@pytest.mark.parametrize("command", FORMS)
def test_every_form_is_a_valid_schema(command):
    jsonschema.Draft202012Validator.check_schema(json_form(command))
    assert FORMS[command].text


@pytest.mark.parametrize("command", FORMS)
def test_every_field_says_what_it_is(command):
    schema = json_form(command)
    schemas = [schema, *schema.get("$defs", {}).values()]
    fields = [field for value in schemas for field in value.get("properties", {}).items()]
    assert [name for name, field in fields if not field.get("description")] == []


def commands(group: click.Command, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in getattr(group, "commands", {}).items():
        inner = getattr(command, "commands", None)
        yield from commands(command, f"{name} ") if inner else [(f"{before}{name}", command)]


def test_every_command_with_json_is_documented():
    every = dict(commands(typer.main.get_command(app)))
    with_json = {
        name for name, command in every.items() if any("--json" in parameter.opts for parameter in command.params)
    }
    documented = {command.partition(" --")[0] for command in FORMS}
    always_json = {"devices describe"}
    assert documented - always_json == with_json


def test_the_schema_of_a_command_is_printed():
    value = printed("schema", "studies", "list")
    assert value["title"] == "vitsearch studies list --json"


def test_a_command_without_json_is_refused_with_those_that_have_it():
    with pytest.raises(UnknownName, match=r"no command with --json is called 'fronts'; did you mean 'front'\? Known"):
        json_form("fronts")


@pytest.mark.parametrize("more", [(), ("--all",), ("--sort", "-accuracy"), ("--where", "accuracy > 0.5")])
def test_front(study, more):
    assert problems(printed("front", study, "--json", *more), "front") == []


def test_front_without_a_feasible_model(make_study):
    study = make_study(trials=2).with_space(limits={"accuracy": {"min": 0.999}})
    study.run()
    value = printed("front", str(study.folder / "fake.db"), "--json", code=1)
    assert problems(value, "front") == []
    assert value["points"] == []
    assert value["nearest"]["single"][0]["misses"][0]["limit"] == "limits.accuracy.min"


def test_show(study, finished):
    for number, record in finished.records().items():
        value = printed("show", study, str(number), "--json")
        assert problems(value, "show") == []
        assert value["outcome"] == ("duplicate" if record.duplicate_of is not None else record.outcome)
    assert problems(printed("show", study, "baseline", "--json"), "show") == []


def test_compare(study):
    assert problems(printed("compare", study, "baseline", "knee", "--json"), "compare") == []


@pytest.fixture
def retargeted(make_study) -> tuple[str, Retargeted]:
    """A study with results on a board: those of this machine, and one model that is predicted."""
    fake = make_study(trials=1)
    fake.run()
    with fake.opened() as (study, _):
        records = {number: record for number, record in study.records().items() if record.is_confirmed}
        last, record = records.popitem()
        prediction = Prediction(last, record.plan, {"cpu_ms_p50": 2.0}, {"cpu_ms_p50": (1.8, 2.2)}, 0.01)
        fit = Fit("cpu_ms_p50", 10, 0.03, None, 0.9)
        results = Retargeted(
            Target("nano"), "physical", "confirm-1", study.baseline(), records, (prediction,), (fit,), {99: "old"}
        )
        results.save(study)
    return str(fake.folder / "fake.db"), results


def test_retarget(retargeted, monkeypatch):
    study, results = retargeted
    monkeypatch.setattr("vitsearch.api.StoredStudy.retarget", lambda *_: results)
    shown = printed("retarget", study, "--device", "nano", "--json")
    assert problems(shown, "retarget") == []
    assert (shown["front"]["device"], shown["measured"]) == ("nano", len(results.models))


def test_front_of_another_device(retargeted):
    shown = printed("front", retargeted[0], "--device", "nano", "--json")
    assert problems(shown, "front") == []
    assert shown["device"] == "nano"


@pytest.mark.parametrize("command", ["explain", "status"])
def test_reading_commands(study, command):
    assert problems(printed(command, study, "--json"), command) == []


def test_plan(study, tmp_path):
    plan = printed("front", study, "--json")["points"][0]["plan"]
    small = {"backbone": "mobilevit_fmnist", "weights": "builtin"}
    (tmp_path / "plan.json").write_text(json.dumps(plan | small))
    assert problems(printed("plan", "plan.json", "--json"), "plan") == []


def test_check(monkeypatch):
    monkeypatch.setattr(costs, "COUNTING_S", 0.0)
    monkeypatch.setattr(costs, "TIMING_S", 0.0)
    assert problems(printed("check", SMALL, "--json"), "check") == []
    assert problems(printed("check", SMALL, "--json", "--no-costs", "--as", "intel_cpu"), "check") == []


def test_run(monkeypatch):
    monkeypatch.setattr("vitsearch.api.run", lambda space, **_: SearchEnd("8 plans trained", True))
    value = printed("run", SMALL, "--json")
    assert problems(value, "run") == []
    assert value == {"study": "small", "reason": "8 plans trained", "complete": True}


def test_doctor():
    assert problems(printed("doctor", "--json"), "doctor") == []


def test_studies(make_study):
    study = make_study(trials=1)
    study.run()
    where = str(study.folder / "fake.db")
    assert problems(printed("studies", "list", str(study.folder), "--json"), "studies list") == []
    assert problems(printed("studies", "clean", where, "--dry-run", "--json"), "studies clean") == []
    assert problems(printed("studies", "delete", where, "--yes", "--json"), "studies delete") == []
    assert printed("studies", "list", str(study.folder), "--json") == []


def test_db(study, tmp_path):
    other = str(tmp_path / "other.db")
    assert problems(printed("db", "copy", study, other, "--json"), "db copy") == []
    assert problems(printed("db", "prepare", other, "--json"), "db prepare") == []


@pytest.mark.long
def test_capabilities():
    value = printed("capabilities", "test_vit4", "--try", "--resolution", "32", "--backend", "onnxruntime", "--json")
    assert problems(value, "capabilities --try") == []


@pytest.mark.parametrize("outcome", [PASSED, FAILED, NOT_JUDGED])
def test_verify(outcome):
    restriction = Restriction("network", True, "a namespace of its own")
    report = Report("fake-trial-1", (Check("checksums", outcome, "11 files"),), (restriction,))
    assert problems(report.to_json(), "verify") == []


def test_install_converter(monkeypatch):
    monkeypatch.setattr("vitsearch.export.converters.install", lambda name, verify, say: say("working"))
    assert problems(printed("install-converter", "litert", "--json"), "install-converter") == []
