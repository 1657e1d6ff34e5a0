"""The agent under the Python versions of devices: 3.6 (JetPack 4), 3.8 (JetPack 5), and a current one."""

import os
import platform
import subprocess
import sys

import pytest

from support import AGENT_HOME, SUPPORT, TESTS
from support.marks import long


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.6", *long("3.8", "3.11", "3.13")])
def test_end_to_end(version, python_of, tmp_path):
    run_portable(python_of(version), "Portable", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.6", "3.8"])
def test_real_models_under_old_pythons(version, python_of, tmp_path):
    """Times, outputs and peaks with the newest onnxruntime for this Python, unpacked for this test."""
    python, libraries = python_of(version), str(tmp_path / "libraries")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", libraries]
    command += [
        "--no-compile",
        "--only-binary=:all:",
        "--python-version",
        version,
        "--platform",
        f"manylinux2014_{platform.machine()}",
    ]
    installed = subprocess.run([*command, "onnxruntime"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if installed.returncode != 0:
        pytest.skip(f"onnxruntime cannot be installed: {installed.stdout.decode()[-200:]}")
    run_portable(python, "Models", tmp_path, libraries)


def run_portable(python, tests, folder, *libraries):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([AGENT_HOME, *libraries])
    if not libraries:  # each of many processes would compile them again
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    result = subprocess.run(
        [python, os.path.join(SUPPORT, "portable.py"), tests],
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, result.stdout.decode()


@pytest.mark.parametrize("version", ["3.6"])
def test_the_tests_compile_under_the_oldest_python(version, python_of):
    """The tests also run on devices: see the README of the agent."""
    homes = [os.path.join(TESTS, "evaluators"), SUPPORT]
    walked = [(folder, name) for home in homes for folder, _, names in os.walk(home) for name in names]
    paths = [os.path.join(folder, name) for folder, name in walked if name.endswith(".py")]
    script = "import sys; [compile(open(path, encoding='utf-8').read(), path, 'exec') for path in sys.argv[1:]]"
    subprocess.run([python_of(version), "-c", script, *paths], check=True)


OTHERS = ("onnxruntime", "numpy", "torch", "ray", "optuna", "timm", "sqlalchemy", "vitsearch")
HEAVY = ("ssl", "http", "email", "html", "urllib", "multiprocessing", "asyncio", "xml", "unittest")


@pytest.mark.parametrize(
    ("module", "left_out"), [("vitsearch_agent", OTHERS), ("vitsearch_agent.cli.app", OTHERS + HEAVY)]
)
def test_imports_no_heavy_modules(module, left_out):
    """An idle agent may use 30 MB; HTTP and TLS of the standard library alone would add 4 MB."""
    script = f"import sys, {module}; print(sorted(set({left_out}) & set(sys.modules)))"
    environment = dict(os.environ, PYTHONPATH=AGENT_HOME)
    output = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert output.strip() == b"[]"
