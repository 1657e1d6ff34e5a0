import pytest


@pytest.fixture
def onnx_file(tmp_path):
    """Write a file under an artifact's name and return the mapping that `inspect` takes."""

    def write(content, name="model.onnx"):
        (tmp_path / name).write_bytes(content)
        return {name: str(tmp_path / name)}

    return write
