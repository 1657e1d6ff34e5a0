"""`vitsearch ship` and `vitsearch verify` as a person meets them: messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from support.bundles import image_files, manifest, write_bundle
from vitsearch.cli.app import main
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch_agent.client.embedded_agent import EmbeddedAgent


@pytest.fixture
def vitsearch(monkeypatch, capsys, tmp_path):
    """Run the command in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitsearch", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), *capsys.readouterr()

    return run


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "tiny", manifest(figures={}), image_files())


def damaged_zip(folder: Path, path: Path) -> str:
    """A zip of a bundle in which one byte of the model was changed."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"tiny/{file.relative_to(folder)}")
    model = (folder / "model.onnx").read_bytes()
    path.write_bytes(path.read_bytes().replace(model, model[:-1] + bytes([model[-1] ^ 1])))
    return str(path)


@pytest.mark.parametrize("choice", [[], ["knee", "--pick", "max accuracy"]])
def test_a_model_is_chosen_in_exactly_one_way(vitsearch, choice):
    code, _, error = vitsearch("ship", "study", *choice)
    assert code == 2
    assert "(a trial, baseline or knee): vitsearch ship study knee; or choose one by" in " ".join(error.split())


def test_a_study_that_is_not_there_is_named(vitsearch):
    code, _, error = vitsearch("ship", "parts", "knee")
    assert code == 2
    assert error.startswith("no study 'parts': studies/parts.db does not exist; start one with 'vitsearch run SPACE'")


def test_a_key_that_is_not_there_is_named_at_once(vitsearch):
    code, _, error = vitsearch("ship", "parts", "knee", "--sign", "id_ed25519")
    assert code == 2
    assert error == "--sign id_ed25519: there is no such file; name a key of OpenSSH\n"


def test_an_intact_bundle_passes(vitsearch, bundle):
    code, output, _ = vitsearch("verify", bundle, "--no-measure")
    assert code == 0
    assert output.splitlines()[-1] == "bundle tiny-trial-1: passed (nothing was measured: --no-measure)"


def test_where_only_checksums_were_judged_the_exit_code_says_so(vitsearch, tmp_path):
    noop = write_bundle(tmp_path / "tiny", manifest(runtime="noop", options={}, images=None))
    code, output, _ = vitsearch("verify", noop)
    assert code == 3
    assert output.splitlines()[-1] == "bundle tiny-trial-1: only checksums judged"


def test_a_signature_is_demanded(vitsearch, bundle, tmp_path):
    signers = tmp_path / "signers"
    signers.write_text("")
    code, output, _ = vitsearch("verify", bundle, "--signers", str(signers))
    assert code == 1
    assert output.splitlines()[1] == "failed      signature  the bundle has no SHA256SUMS.sig"


def test_a_changed_bundle_fails(vitsearch, bundle):
    Path(bundle, "labels.json").write_text("[]")
    code, output, _ = vitsearch("verify", bundle, "--json")
    assert code == 1
    assert json.loads(output)["checks"] == [
        {
            "name": "files",
            "outcome": "failed",
            "message": "not the 7 files that were shipped: labels.json was changed",
        }
    ]


def test_a_zip_with_a_changed_byte_fails_and_is_reported(vitsearch, bundle, tmp_path):
    damaged = damaged_zip(Path(bundle), tmp_path / "tiny.zip")
    code, output, _ = vitsearch("verify", damaged, "--no-measure", "--junit", "checks.xml")
    assert code == 1
    assert output.splitlines() == [
        "failed      files  the zip is damaged: model.onnx (bad CRC)",
        "bundle tiny.zip: failed",
    ]
    assert 'failure message="the zip is damaged: model.onnx (bad CRC)"' in Path("checks.xml").read_text()
    code, output, _ = vitsearch("verify", damaged, "--json")
    assert code == 1
    assert [check["outcome"] for check in json.loads(output)["checks"]] == ["failed"]


def test_a_damaged_baseline_is_an_error(vitsearch, bundle, tmp_path):
    damaged = damaged_zip(Path(bundle), tmp_path / "old.zip")
    code, _, error = vitsearch("verify", bundle, "--no-measure", "--baseline", damaged)
    assert code == 2
    assert error == f"--baseline {damaged}: the zip is damaged: model.onnx (bad CRC)\n"


def test_what_is_no_bundle_is_an_error(vitsearch, tmp_path):
    code, _, error = vitsearch("verify", str(tmp_path / "nothing"))
    assert code == 2
    assert error == f"{tmp_path / 'nothing'} is not a bundle: neither a folder nor a zip of one\n"


def test_a_device_that_nobody_added_is_named(vitsearch, bundle):
    code, _, error = vitsearch("verify", bundle, "--device", "nano")
    assert code == 2
    assert error == "device 'nano' is not known here; add it: vitsearch devices add URL nano\n"


@pytest.mark.long
def test_a_device_verifies_a_bundle(vitsearch, tmp_path):
    figures = {"latency_ms_p50": {"value": 1.0, "low": 0.9, "high": 1.1}}
    bundle = write_bundle(tmp_path / "tiny", manifest(figures=figures), image_files())
    with EmbeddedAgent(str(tmp_path / "agent")) as agent:
        DeviceBook.of_user(os.environ).put("board", KnownDevice(agent.url, agent.token))
        code, output, _ = vitsearch("verify", bundle, "--device", "board", "--json")
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert code == 0
    assert checks["accuracy"]["message"].endswith("every image gets the same class as when shipped")
    assert checks["latency_ms_p50"]["outcome"] == "not judged"  # the bundle is from another board
