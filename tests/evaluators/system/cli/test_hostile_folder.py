"""A folder is not code: every command of the agent, in a folder full of modules named as what Python imports."""

import argparse
import os
import subprocess
import sys

import pytest

from support import AGENT_HOME
from support.hostile_folder import HostileFolder
from support.marks import long
from vitsearch_agent.base import processes, single_file
from vitsearch_agent.base.python import run_module
from vitsearch_agent.cli.parser import parser
from vitsearch_agent.client.embedded_agent import EmbeddedAgent

SLOW = ("selftest",)
"""Takes minutes."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return HostileFolder(tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("marks") / "marks")


def commands():
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return found.choices


def line(name, blob, state):
    """A command with what it needs; it changes nothing outside of its folders."""
    values = {"--state": state, "--runtime": "noop", "models": blob, "bundle": blob, "--to": state + ".json"}
    words = [name]
    for action in commands()[name]._actions:
        option = action.option_strings[0] if action.option_strings else action.dest
        if option in ("--dry-run", "--exit-with-stdin"):
            words.append(option)
        elif option in values:
            words += [option, values[option]] if action.option_strings else [values[option]]
    return words


@pytest.mark.parametrize("version", ["3.6", *long("3.8", "3.13")])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in SLOW)) for n in commands()])
def test_no_command_of_the_single_file_runs_a_module_of_the_folder(name, version, hostile, python_of, blob, tmp_path):
    single_file.write(str(tmp_path / "agent.pyz"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python_of(version), str(tmp_path / "agent.pyz"), *line(name, blob, str(tmp_path / "state"))]
    done = ran(command, hostile, environment)
    assert hostile.marks() == [], done


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in SLOW)) for n in commands()])
def test_no_command_of_the_package_runs_a_module_of_the_folder(name, hostile, blob, tmp_path):
    command = run_module(sys.executable, "vitsearch_agent", *line(name, blob, str(tmp_path / "state")))
    done = ran(command, hostile, processes.with_package_path(dict(os.environ)))
    assert hostile.marks() == [], done


@pytest.mark.parametrize("version", ["3.6", *long("3.8", "3.13")])
def test_an_embedded_agent_and_what_it_measures_run_no_module_of_the_folder(
    version, hostile, python_of, blob, tmp_path, tiny_protocol, monkeypatch
):
    monkeypatch.chdir(hostile.folder)
    monkeypatch.setenv("PYTHONPATH", AGENT_HOME)
    with EmbeddedAgent(str(tmp_path / "state"), python=python_of(version)) as agent, agent.client("test") as client:
        client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    assert hostile.marks() == []


def ran(command, hostile, environment):
    done = subprocess.run(
        command,
        cwd=str(hostile.folder),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode in (0, 1, 2, 3), done.stdout.decode()
    return done.stdout.decode()
