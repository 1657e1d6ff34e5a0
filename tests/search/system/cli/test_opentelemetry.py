"""The command of docs/observability.md under OpenTelemetry's own program, which parses options too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
INSTRUMENT = shutil.which("opentelemetry-instrument", path=PROGRAMS)


@pytest.mark.long
@pytest.mark.skipif(INSTRUMENT is None, reason="needs opentelemetry-distro")
@pytest.mark.parametrize(
    "options", [["--metrics", "0"], ["--log-file", "log.jsonl"], ["--mlflow", "sqlite:///m.db"], ["--retry-failed"]]
)
def test_every_option_of_a_run_reaches_it(options, tmp_path):
    command = [INSTRUMENT, "--", "vitsearch", "run", "nothing.yaml", *options]
    quiet = {f"OTEL_{what}_EXPORTER": "none" for what in ("TRACES", "METRICS", "LOGS")}
    environment = os.environ | quiet | {"PATH": PROGRAMS}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "the file 'nothing.yaml' does not exist" in done.stderr
    assert "ambiguous" not in done.stderr
