"""The agent on the Pythons of the boards: 3.6 (JetPack 4), 3.8 (JetPack 5), and a current one."""

import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE_HOME = os.path.join(os.path.dirname(os.path.dirname(HERE)), "evaluators")


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.11"])
def test_end_to_end(version, python_of, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(PYTHONPATH=PACKAGE_HOME, PYTHONDONTWRITEBYTECODE="1")
    result = subprocess.run(
        [python_of(version), os.path.join(HERE, "portable.py")],
        cwd=str(tmp_path),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, result.stdout.decode()


@pytest.mark.parametrize("module", ["vitsearch_evaluators", "vitsearch_evaluators.cli"])
def test_imports_nothing_but_the_standard_library(module):
    script = (
        f"import sys, {module}; "
        "heavy = {'onnxruntime', 'numpy', 'torch', 'ray', 'optuna', 'timm', 'sqlalchemy', 'vitsearch'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = dict(os.environ, PYTHONPATH=PACKAGE_HOME)
    output = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert output.strip() == b"[]"
