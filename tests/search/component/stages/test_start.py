import subprocess
import sys


def test_the_driver_names_jobs_without_torch():
    code = "import sys, vitsearch.stages; print(sorted({'torch', 'timm', 'numpy', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
