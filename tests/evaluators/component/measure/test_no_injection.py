"""No text of a client becomes part of a command line, an environment or a path."""

import os
import subprocess
import sys

import pytest

from vitsearch_agent import runtimes
from vitsearch_agent.base.python import run_module
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure import child_process
from vitsearch_agent.measure.child_process import StopSignal, run_child
from vitsearch_agent.wire.job_spec import ARTIFACT_NAMES, BlobRef

HOSTILE = (
    "/etc/passwd",
    "../../../state/token",
    "--plugins=/tmp/evil.so",
    "-c",
    "$(id)",
    "`id`",
    "; id",
    "evil.so",
    "a\0b",
    "a\nb",
    "LD_PRELOAD=/tmp/evil.so",
    "",
)
FREE_TEXT = {("onnxruntime", "disabled_optimizers")}
"""Names that onnxruntime looks up in its own table, in the child."""


def options_of(name):
    return sorted(set(runtimes.create(name).options) | set(runtimes.create(name).check_options({})))


@pytest.mark.parametrize("name", sorted(runtimes.BUILTIN))
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_option_of_any_runtime_accepts_free_text(name, hostile):
    runtime = runtimes.create(name)
    for option in options_of(name):
        if (name, option) in FREE_TEXT:
            continue
        for value in (hostile, [hostile], {hostile: hostile}):
            with pytest.raises(InvalidRequest):
                runtime.check_options({option: value})
    with pytest.raises(InvalidRequest):
        runtime.check_options({hostile: 1})


@pytest.mark.parametrize("hostile", HOSTILE)
def test_only_known_file_names_are_accepted(hostile):
    for name in (hostile, hostile + ARTIFACT_NAMES[0], ARTIFACT_NAMES[0] + hostile):
        if name not in ARTIFACT_NAMES:
            with pytest.raises(InvalidRequest, match="not one of"):
                BlobRef.from_json({"name": name, "sha256": "ab" * 32, "size": 1})


def test_the_command_line_of_the_child_does_not_depend_on_the_job(monkeypatch, tmp_path):
    started = []

    def popen(argv, **settings):
        started.append((argv, settings["env"], settings["cwd"]))
        raise OSError("not today")

    monkeypatch.setattr(subprocess, "Popen", popen)
    environments = []
    for hostile in HOSTILE:
        job = {"runtime": hostile, "options": {hostile: hostile}, "model": hostile, "answer": "answer.json"}
        with pytest.raises(MeasurementFailed, match="not today"):
            run_child(job, str(tmp_path), 1.0, StopSignal())
    for argv, environment, folder in started:
        job_file = str(tmp_path / "job.json")
        assert argv == run_module(sys.executable, "vitsearch_agent.measure.child.main", job_file)
        assert folder == os.sep
        assert os.path.dirname(environment.pop("TMPDIR")) == str(tmp_path)
        environments.append(environment)
    assert len(started) == len(HOSTILE)
    assert all(environment == environments[0] for environment in environments)


def test_the_environment_of_a_child_has_no_secrets_and_no_preloads(monkeypatch, tmp_path):
    monkeypatch.setenv("VITSEARCH_TOKEN", "secret")
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = child_process.child_environment(sys.executable, str(tmp_path))
    assert not {"VITSEARCH_TOKEN", "LD_PRELOAD"} & set(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["CI"] == "true"  # OpenVINO's
