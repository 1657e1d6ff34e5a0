"""The agent under the Python versions of devices: 3.6 (JetPack 4), 3.8 (JetPack 5), and a current one."""

import os
import subprocess
import sys

import pytest

from support import AGENT_HOME, SUPPORT, TESTS


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.11"])
def test_end_to_end(version, python_of, tmp_path):
    run_portable(python_of(version), "Portable", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.6", "3.8"])
def test_real_models_under_old_pythons(version, python_of, tmp_path):
    """Times, accuracy and peaks with the newest onnxruntime for this Python, installed for this test."""
    environment = tmp_path / "environment"
    subprocess.run([python_of(version), "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    for wanted in (["--upgrade", "pip"], ["onnxruntime"]):
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        installed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if installed.returncode != 0:
            pytest.skip(f"{' '.join(wanted)} cannot be installed: {installed.stdout.decode()[-200:]}")
    run_portable(python, "Models", tmp_path)


def run_portable(python, tests, folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(PYTHONPATH=AGENT_HOME, PYTHONDONTWRITEBYTECODE="1")
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
    ("module", "left_out"), [("vitsearch_evaluators", OTHERS), ("vitsearch_evaluators.cli.app", OTHERS + HEAVY)]
)
def test_imports_no_heavy_modules(module, left_out):
    """An idle agent may use 30 MB; HTTP and TLS of the standard library alone would add 4 MB."""
    script = f"import sys, {module}; print(sorted(set({left_out}) & set(sys.modules)))"
    environment = dict(os.environ, PYTHONPATH=AGENT_HOME)
    output = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert output.strip() == b"[]"
