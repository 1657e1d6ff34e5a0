import sys

import pytest

from support.fake_converter import DIES, FAILS, HANGS, IDLES, FakeConverter
from vitsearch.errors import ResourceError, StageError, UnknownName
from vitsearch.export import converters

RUN = "run: vitsearch install-converter litert"


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    """The folder of all converters."""
    monkeypatch.setenv(converters.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_folder_is_in_the_users_cache_unless_a_variable_names_another(root, monkeypatch):
    assert converters.folder_of("litert") == root / "litert"
    monkeypatch.delenv(converters.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(converters.folder_of("litert")) == "/somewhere/vitsearch/converters/litert"


def test_a_converter_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'litert'"):
        converters.converter_missing("litrt")


def test_the_torch_of_the_environment_has_our_minor_version(monkeypatch):
    monkeypatch.setattr(converters, "version", {"torch": "2.13.1+cpu"}.get)
    assert "torch==2.13.*" in converters.requirements_of("litert")


def test_a_missing_converter_names_the_command_that_installs_it():
    assert converters.converter_missing("litert") == f"the litert converter is not installed; {RUN}"


def test_an_environment_counts_as_missing_until_a_model_was_converted_in_it(root):
    fake = FakeConverter(root)
    assert converters.converter_missing("litert") == f"the litert converter is not installed; {RUN}"
    fake.mark_installed()
    assert converters.converter_missing("litert") is None


def test_an_environment_of_other_versions_counts_as_missing(root):
    FakeConverter(root).mark_installed(("litert-torch>=0.9,<0.10",))
    reason = converters.converter_missing("litert")
    assert reason is not None
    assert "for other versions (litert-torch>=0.9,<0.10)" in reason
    assert reason.endswith(RUN)


# ---- calls


def test_a_call_shields_the_converter_from_our_pythonpath(root):
    fake = FakeConverter(root, IDLES)
    converters.call(fake.python, root / "script.py", ["convert", root / "a.pt2"])
    assert fake.calls == [["-I", str(root / "script.py"), "convert", str(root / "a.pt2")]]


def test_a_converter_that_fails_is_reported_with_its_last_words(root):
    fake = FakeConverter(root, FAILS)
    with pytest.raises(StageError) as failed:
        converters.call(fake.python, root / "litert_convert.py", ["convert"])
    assert (failed.value.stage, failed.value.kind) == ("export", "crash")
    assert "litert_convert convert: ValueError: no lowering for aten.foo (exit code 1)" in str(failed.value)


def test_a_converter_that_is_killed_is_reported_with_its_signal(root):
    fake = FakeConverter(root, DIES)
    with pytest.raises(StageError, match=r"it said nothing \(signal 9\)"):
        converters.call(fake.python, root / "script.py", ["convert"])


def test_a_converter_that_hangs_is_ended(root):
    fake = FakeConverter(root, HANGS)
    with pytest.raises(StageError, match=r"has not finished after 0.5 s") as failed:
        converters.call(fake.python, root / "script.py", ["convert"], timeout_s=0.5)
    assert failed.value.kind == "timeout"


def test_a_converter_that_cannot_be_started_is_a_failed_export(root):
    with pytest.raises(StageError, match="cannot be started"):
        converters.call(root / "nothing", root / "script.py", ["convert"])


# ---- installing

MAKES_VENV = """
if call[:3] == ["-I", "-m", "venv"]:
    import shutil
    target = Path(call[-1]) / "bin"
    target.mkdir(parents=True)
    shutil.copy(sys.argv[0], target / "python")
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A Python of ours whose venvs have a fake Python."""
    fake = FakeConverter(tmp_path / "ours", MAKES_VENV, "python")
    monkeypatch.setattr(sys, "executable", str(fake.python))
    return fake


def test_install_makes_the_environment_verifies_it_and_does_nothing_the_second_time(root, python):
    verified, said = [], []
    converters.install("litert", verified.append, said.append)
    venv, pip = python.calls
    assert venv == ["-I", "-m", "venv", "--clear", str(root / "litert")]
    assert pip[:4] == ["-I", "-m", "pip", "install"]
    assert tuple(pip[5:]) == converters.requirements_of("litert")
    assert verified == [root / "litert" / "bin" / "python"]
    assert converters.converter_missing("litert") is None
    assert said[-1] == "The litert converter is installed."
    converters.install("litert", verified.append, said.append)
    assert (len(python.calls), len(verified)) == (2, 1)
    assert "is already installed in" in said[-1]


def test_an_environment_that_cannot_convert_is_not_installed(root, python):
    def verify(_python):
        raise StageError("export", "crash", "convert: no such operator")

    with pytest.raises(ResourceError, match="does not work: .*no such operator"):
        converters.install("litert", verify, lambda text: None)
    assert converters.converter_missing("litert") is not None


def test_a_step_that_fails_ends_the_installation(root, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(FakeConverter(tmp_path / "ours", FAILS).python))
    with pytest.raises(ResourceError, match="this step failed, its reason is above: .* -m venv"):
        converters.install("litert", lambda python: None, lambda text: None)
    assert not (root / "litert").exists()
