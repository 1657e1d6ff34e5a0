import sys

import pytest

from support.fake_converter import FAILS, FakeConverter
from vitsearch.cli.app import main
from vitsearch.export import converters


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs `vitsearch install-converter` with a folder of converters that is empty."""
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vitsearch", "install-converter", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_an_installed_converter_is_left_as_it_is(command, tmp_path, capsys):
    fake = FakeConverter(tmp_path).mark_installed()
    assert command("litert") == 0
    assert capsys.readouterr().out == f"The litert converter is already installed in {fake.folder}.\n"
    assert fake.calls == []


def test_a_converter_that_does_not_exist_is_an_error_with_the_known_ones(command, capsys):
    assert command("onnx2tf") == 2
    assert capsys.readouterr().err == "no converter is called 'onnx2tf'; known: litert, qnn\n"


def test_a_failed_step_is_a_message_with_the_command_that_failed(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", str(FakeConverter(tmp_path / "ours", FAILS).python))
    assert command("litert") == 2
    assert "this step failed, its reason is above" in capsys.readouterr().err
