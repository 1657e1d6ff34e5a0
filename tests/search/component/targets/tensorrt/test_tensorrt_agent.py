"""Files for TensorRT in a real agent: with a program that stands for trtexec, and with trtexec where there is a GPU."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from support import SUPPORT
from support.marks import long
from vitsearch.export import EXPORTERS
from vitsearch.export.device_jobs import device_job
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.protocol import SCREEN

ONCE = SCREEN._replace(processes=1, max_processes=1, reference=None)
QUICK = ONCE._replace(id="test", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0)


def measured(client, subject, precision, folder):
    """The file of a deployment in the form of the agent's version, measured by the agent."""
    (info,) = [runtime for runtime in client.device().runtimes if runtime.name == "trtexec"]
    task = subject.task(precision, info.version)
    file = EXPORTERS.get("tensorrt")().export(subject.model, task, folder)
    job = device_job(task.deployment.with_options(file.options), ["trtexec"])
    return info, client.measure(str(file.path), job.runtime, job.options, QUICK)


def build_call(tmp_path, subject, precision, version, banner):
    """The call with which a real agent has the fake trtexec build the file of a deployment, and run it."""
    tool = tmp_path / "tool"
    tool.mkdir()
    shutil.copy(os.path.join(SUPPORT, "fake_trtexec.py"), tool / "fake.py")
    (tool / "trtexec").write_text(f'#!/bin/sh\nexec {sys.executable} {tool / "fake.py"} "$@"\n')
    (tool / "trtexec").chmod(0o755)
    about = {"banner": banner, "sleeps": True}  # an agent compares what it reports with the time that it was there
    (tool / "tensorrt.json").write_text(json.dumps(about))
    state = tmp_path / "agent"
    state.mkdir()
    settings = {"tool": str(tool / "trtexec"), "writable": [str(tool)]}  # the fake one records its calls there
    (state / "config.json").write_text(json.dumps({"runtimes": {"trtexec": settings}}))
    with EmbeddedAgent(str(state)) as agent, agent.client("study") as client:
        info, measurement = measured(client, subject, precision, tmp_path)
    assert (info.available, info.version) == (True, version)
    assert 2.5 <= measurement.latency_ms.p50 <= 2.51  # its runs take the one and the other in turn
    build, _run = map(json.loads, (tool / "calls.jsonl").read_text().splitlines())
    return build


@pytest.mark.parametrize(
    ("precision", "version", "banner", "flags"),
    [
        ("fp16", "8.2.1", "v8201", {"--fp16"}),
        ("int8_ptq", "8.2.1", "v8201", {"--int8", "--fp16", "--calib"}),
        *long(
            ("int8_ptq", "8.6.1", "v8601", {"--int8", "--fp16"}),
            ("int8_ptq", "10.3.0", "v100300] [b17", {"--stronglyTyped"}),
            ("fp16", "11.1.0", "v11.1.0.106] [b48", set()),
        ),
    ],
)
def test_an_agent_builds_the_file_that_its_own_version_reads(tmp_path, small, precision, version, banner, flags):
    build = build_call(tmp_path, small, precision, version, banner)
    assert {flag for flag in build if flag in ("--fp16", "--int8", "--stronglyTyped", "--calib")} == flags


@pytest.mark.parametrize(("version", "banner"), [("8.0.1", "v8001"), *long(("8.2.1", "v8201"))])
@pytest.mark.long
def test_an_old_trtexec_gets_a_cache_that_fits_the_graph_and_its_version(tmp_path, small, version, banner):
    (layer,) = build_call(tmp_path, small, "int8_ptq", version, banner)["layers_in_int8"]
    assert layer.endswith("/output")


TRTEXEC = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"


@pytest.mark.skipif(
    not (os.path.exists(TRTEXEC) and (shutil.which("nvidia-smi") or os.path.exists("/dev/nvhost-gpu"))),
    reason="needs a GPU with TensorRT's trtexec",
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_ptq"])
def test_tensorrt_itself_builds_and_runs_the_file(subject, precision, tmp_path):
    with EmbeddedAgent(str(tmp_path / "agent")) as agent, agent.client("study") as client:
        assert measured(client, subject, precision, tmp_path)[1].latency_ms.p50 > 0
