"""What a bundle needs is made once; a second bundle reads the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import zipfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.core.json_value import json_of
from vitsearch.core.stage import Stage
from vitsearch.devices.agent_device import Device
from vitsearch.errors import BundleError, ResourceError, StageError, StudyError
from vitsearch.pipeline.progress import Silent
from vitsearch.search.admin.housekeeping import clean
from vitsearch.search.retarget.retargeting import RetargetLoop
from vitsearch.ship import prepare
from vitsearch.ship.choice import Chosen, Wanted, choose
from vitsearch.ship.prepare import Final, Opened, make, stored_final
from vitsearch.ship.ship import PrintedBundle, ShipOptions, ship
from vitsearch.ship.ship import _opened as opened_to_ship
from vitsearch.space import SearchSpace
from vitsearch.storage.shipped import find
from vitsearch.storage.stores import store_of
from vitsearch.study.front import read_front
from vitsearch.study.retargeted import Target
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import CONFIRM, Hardware


@dataclass
class Shop:
    """A finished study whose knee is shipped with the fakes of workers and device; `section` is `ship` of its
    file."""

    study: Any

    @property
    def where(self) -> str:
        return str(self.study.folder.with_suffix(".db"))

    def with_opened(self, work, **section):
        with self.study.opened() as (study, ledger):
            space = SearchSpace.from_json(self.study.space.to_json() | {"ship": section})
            return work(Opened(study, ledger, space), choose(study, ledger, Wanted("knee")))

    def prepare(self, again: bool = False, **section: int) -> Final:
        def work(opened: Opened, chosen: Chosen) -> Final:
            return asyncio.run(make(opened, chosen, self.study.pipeline(opened.ledger), again))

        return self.with_opened(work, **section)

    def stored_final(self, **section: int) -> Final | None:
        return self.with_opened(stored_final, **section)

    def made(self) -> tuple[int, int]:
        """How often the test images were evaluated and models confirmed."""
        return self.study.runner.runs[Stage.SHIP], self.study.device.measured[CONFIRM.id]


@pytest.fixture
def shop(finished_copy) -> Shop:
    return Shop(finished_copy())


def test_a_model_is_evaluated_and_confirmed_once_and_again_only_on_request(shop):
    assert shop.stored_final() is None
    final = shop.prepare()
    counts = shop.made()
    assert shop.stored_final() == final
    shop.prepare()
    assert shop.made() == counts
    shop.prepare(again=True)
    assert shop.made() == (counts[0] + 1, counts[1] + 1)


@pytest.mark.parametrize("has_test", [True, False])
def test_test_images_are_named_only_where_there_are_some(shop, monkeypatch, has_test):
    notes: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda _, text: notes.append(text))
    wide = shop.study.pipeline
    monkeypatch.setattr(type(shop.study), "pipeline", lambda _, ledger: wide(ledger, has_test=has_test))
    shop.prepare()
    assert ("evaluating the test images, which the search never uses" in notes) == has_test
    assert ("evaluating the validation images" in notes) != has_test


def test_the_accuracy_on_the_test_images_is_found_in_the_ledger(shop):
    final = shop.prepare()
    tested = shop.with_opened(lambda opened, _: find(opened.ledger, final.keys.artifact_key, opened.judged_by))
    assert (tested.split, tested.n, tested.figures.value("accuracy")) == ("test", 1000, 0.88)


def test_a_deleted_model_is_exported_again(shop):
    shop.prepare()
    for path in (shop.study.folder / "artifacts").rglob("*.onnx"):
        path.unlink()
    assert shop.stored_final() is None
    shop.prepare()
    assert shop.stored_final() is not None
    assert shop.made()[0] == 1


def test_what_a_bundle_has_of_the_test_images_survives_a_clean_and_is_made_again_once_deleted(shop):
    final = shop.prepare()
    shop.with_opened(lambda opened, _: store_of(opened.ledger).prepare())  # as a run does: only then it is cleaned
    clean(shop.where, dry_run=False)
    assert shop.stored_final() == final

    def delete_outputs(opened, _):
        shipped = find(opened.ledger, final.keys.artifact_key, opened.judged_by)
        store_of(opened.ledger).get(shipped.outputs_sha256).unlink()

    shop.with_opened(delete_outputs)
    assert shop.stored_final() is None
    runs, confirmed = shop.made()
    assert shop.prepare() == final == shop.stored_final()
    assert shop.made() == (runs + 1, confirmed)


def test_a_device_that_fails_leaves_the_model_unprepared(shop):
    def broken(path: Path) -> None:
        raise StageError("measure", "crash", "the device burns")

    shop.study.device.before = broken
    with pytest.raises(StageError, match="the device burns"):
        shop.prepare(again=True)
    assert shop.stored_final() is None  # nothing is known of the device


def test_a_longer_training_is_made_once_and_the_better_model_is_shipped(shop):
    trained = shop.study.runner.runs[Stage.TRAIN]
    final = shop.prepare(epochs=30)
    assert shop.study.runner.runs[Stage.TRAIN] == trained + 1
    assert final.epochs == 30
    assert final.plan.recipe.rungs == ((0, 30) if final.is_longer else (0, 1))
    assert shop.prepare(epochs=30) == shop.stored_final(epochs=30) == final
    assert shop.study.runner.runs[Stage.TRAIN] == trained + 1
    final = shop.stored_final()  # without the section, the model of the search
    assert final is None or final.epochs is None


@pytest.mark.long
def test_a_longer_training_is_confirmed_on_each_device_for_itself(shop):
    shop.prepare(epochs=30)

    def elsewhere(opened, chosen):
        deployments = (replace(chosen.plan.deployment, device="pi5"),)
        there = replace(
            chosen, keys=replace(chosen.keys, device_id="pi5"), plan=replace(chosen.plan, deployments=deployments)
        )
        assert stored_final(opened, there) is None
        return prepare._final(opened, there)

    final = shop.with_opened(elsewhere, epochs=30)
    assert (final.keys.device_id, final.plan.deployment.device) == ("pi5", "pi5")


def test_a_device_is_where_the_space_file_has_it_now(shop, tmp_path):
    nano = {"url": "http://127.0.0.1:1"}
    with shop.study.opened() as (study, _):
        study.remember("space", study.space().to_json() | {"devices": {"nano": nano}})
    moved = shop.study.space.to_json() | {"devices": {"nano": {"url": "http://127.0.0.1:2"}}}
    del moved["fleet"]
    (tmp_path / "moved.yaml").write_text(json.dumps(moved))
    with opened_to_ship(str(tmp_path / "moved.yaml"), None) as opened:
        assert opened.space.devices["nano"].url == "http://127.0.0.1:2"


def test_a_second_bundle_needs_neither_workers_nor_device_and_is_the_same(shop, tmp_path, monkeypatch):
    shop.prepare()

    def never(*arguments: object) -> Device:
        raise AssertionError("nothing is missing")

    monkeypatch.setattr(prepare.finished_session, "opened", never)
    first, other = (ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / name), Silent()) for name in ("a", "b"))
    assert first.archive.read_bytes() == other.archive.read_bytes()
    tested = json_of(PrintedBundle.of(first))["quality"]["test"]
    assert (tested["n"], tested["values"]["accuracy"], tested["values"]["recall_min"]) == (1000, 0.88, 0.88)
    described = json.loads((tmp_path / "a" / "bundle.json").read_text())
    assert described["accuracy"] == {"split": "test", "n": 1000, "correct": 880}
    said = (tmp_path / "a" / "README.md").read_text()
    assert "\nBeside the unpruned baseline (fake\\_vit@28 fp32): " in said
    assert "\nPlace: on the front, its knee.\n" in said


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_what_is_shipped_is_added_to_the_run_of_the_study_in_mlflow(shop, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'vitsearch[mlflow]'")
    monkeypatch.chdir(tmp_path)  # where it makes folders
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    shop.prepare()
    bundle = ship(
        shop.where, Wanted("knee"), ShipOptions(tmp_path / "here", observers={"mlflow": store}), notes := Notes()
    )
    assert notes.texts == ["mlflow has the bundle, in the run of study 'fake'"]
    (run,) = mlflow.MlflowClient(store).search_runs(["1"])
    assert (run.info.run_name, run.info.status) == ("fake", "FINISHED")
    assert run.data.tags["vitsearch.shipped"] == bundle.model.name
    assert run.data.metrics["shipped/accuracy_test"] == 0.88
    archive = mlflow.MlflowClient(store).download_artifacts(run.info.run_id, f"shipped/{bundle.model.name}/here.zip")
    assert Path(archive).read_bytes() == bundle.archive.read_bytes()


@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_a_bundle_that_mlflow_does_not_take_is_written(shop, tmp_path):
    pytest.importorskip("mlflow", reason="pip install 'vitsearch[mlflow]'")
    shop.prepare()
    options = ShipOptions(tmp_path / "here", observers={"mlflow": "ftp://nowhere"})
    bundle = ship(shop.where, Wanted("knee"), options, notes := Notes())
    assert notes.texts[0].startswith(f"mlflow did not take the bundle, which is in {tmp_path / 'here'}: ")
    assert bundle.archive.is_file()


def test_figures_of_an_emulated_device_are_refused_without_the_flag(shop, tmp_path):
    shop.prepare()
    with shop.study.opened() as (study, _):
        emulated = DeviceIdentity.of(shop.study.device.info._replace(kind="emulated"))
        study.remember("devices", {"local": [emulated.to_json()]})
    with pytest.raises(ResourceError) as raised:
        ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "here"), Silent())
    assert str(raised.value) == (
        "study 'fake' was measured on an emulated device, so its figures are those of no real one; to ship them all "
        "the same, add --allow-emulated"
    )
    ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "here", emulated=True), Silent())
    assert (tmp_path / "here" / "bundle.json").is_file()


def test_the_device_is_shipped_without_its_host(shop):
    shop.study.device.info = shop.study.device.info._replace(hardware=Hardware("workstation"))
    shop.prepare()
    with shop.study.opened() as (study, _):
        (described,) = study.attributes["environments"].values()
    assert described["name"] == "local"


def test_a_signed_bundle_has_its_signature_in_the_folder_and_the_zip(shop, tmp_path, new_key):
    """Checked by hand, as somebody without vitsearch would."""
    shop.prepare()
    key = new_key()
    bundle = ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "here", sign=key), Silent())
    assert bundle.is_signed
    (tmp_path / "signers").write_text(f"ada {key.with_name('key.pub').read_text()}")
    verify = "ssh-keygen -Y verify -f ../signers -I ada -n vitsearch-bundle -s SHA256SUMS.sig < SHA256SUMS"
    for check in (verify, "sha256sum --quiet -c SHA256SUMS"):
        done = subprocess.run(check, shell=True, cwd=tmp_path / "here", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    signature = (tmp_path / "here" / "SHA256SUMS.sig").read_bytes()
    with zipfile.ZipFile(bundle.archive) as archive:
        assert archive.read(f"{bundle.model.name}/SHA256SUMS.sig") == signature
    again = ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "again", sign=key), Silent())
    assert again.archive.read_bytes() == bundle.archive.read_bytes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (ShipOptions(Path("n" * 300)), "a name there has at most "),
        (ShipOptions(Path("file/here")), "file is not a folder"),
        (ShipOptions(Path("link")), "link is a link"),
        (ShipOptions(Path("here"), sign=Path("no-key")), "--sign no-key: there is no such file"),
    ],
    ids=["long name", "below a file", "link", "key"],
)
def test_what_cannot_be_written_is_said_before_the_model_is_prepared(shop, tmp_path, monkeypatch, options, reason):
    def never(*arguments):
        raise AssertionError("nothing must be trained or measured")

    monkeypatch.setattr(prepare, "prepare", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(BundleError, match=reason):
        ship(shop.where, Wanted("knee"), replace(options, again=True), Silent())


def test_a_second_ship_is_refused_while_the_first_prepares_its_model(shop, tmp_path, monkeypatch):
    shop.prepare()
    said = []

    def meanwhile(*arguments):
        with pytest.raises(BundleError) as raised:
            ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "here"), Silent())
        said.append(str(raised.value))
        return stored(*arguments)

    stored = prepare.stored_final
    monkeypatch.setattr(prepare, "stored_final", meanwhile)
    ship(shop.where, Wanted("knee"), ShipOptions(tmp_path / "here"), Silent())
    assert said[0].startswith(f"{tmp_path / 'here'} is being written by process {os.getpid()} of ")
    assert (tmp_path / "here" / "bundle.json").is_file()


HOST, USER, HOME = "secret-host-7", "secret-user-7", "/secret-home-7"


def test_the_bundle_of_a_study_says_nothing_of_the_machine(make_study, tmp_path, monkeypatch):
    """Weights of a file, images of a folder: neither paths nor the names of host and user are in any of its files."""
    for name, value in {"HOME": HOME, "USER": USER, "LOGNAME": USER}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    study = make_study(trials=3).with_space(
        space__backbone=[{"name": "fake_vit", "weights": "file:~/nets/best.safetensors"}],
        task={"data": {"source": "folder", "root": f"{HOME}/images"}},
    )
    study.device.info = study.device.info._replace(hardware=Hardware(HOST))
    study.run()
    files = study.folder / "fake.files"
    files.mkdir()
    os.rename(study.folder / "artifacts", files / "artifacts")
    shop = Shop(replace(study, folder=files))
    shop.prepare()
    bundle = tmp_path / "bundle"
    ship(shop.where, Wanted("knee"), ShipOptions(bundle), Silent())
    for file in (file for file in bundle.rglob("*") if file.is_file()):
        words = [word for word in (HOST, USER, HOME, "~/nets", str(tmp_path)) if word.encode() in file.read_bytes()]
        assert words == [], file.name
    assert json.loads((bundle / "plan.json").read_text())["weights"] == "file:best.safetensors"


def test_another_device_is_no_place_to_confirm_a_trial(shop):
    shop.study.device.info = shop.study.device.info._replace(device_id="another")
    with pytest.raises(StudyError) as raised:
        shop.prepare()
    assert str(raised.value).endswith(
        "of study 'fake' was measured on another device; here is local: unknown hardware, id another: ship it where "
        "that device answers"
    )


def test_a_study_with_another_confirmation_is_to_be_run_first(shop):
    with shop.study.opened() as (study, _):
        study.remember("protocol", "confirm-1+soak300")
    with pytest.raises(StudyError) as raised:
        shop.prepare()
    assert str(raised.value).endswith(
        "of study 'fake' was confirmed by another protocol than 'confirm-1+soak300'; run 'vitsearch run' on its space "
        "file first"
    )


def test_the_front_names_the_file_of_each_model_and_its_digest(shop):
    points = shop.with_opened(lambda opened, _: read_front(opened.study, opened.ledger).points)
    for point in points:
        assert point.file.is_file()
        assert point.file.parent.name + point.file.stem == point.sha256


@pytest.fixture
def on_a_board(shop) -> Shop:
    """The same shop with a board on which the models were measured, by a protocol of two threads."""
    board = FakeDevice("nano", info=shop.study.device.info._replace(device_id="nano-1"))
    target = Target("nano", threads=2)
    there = replace(shop.study, device=board, space=target.space(shop.study.space))
    with shop.study.opened() as (study, ledger):
        moving = RetargetLoop(study, ledger, there.pipeline(ledger), target, lambda plan: None)
        asyncio.run(moving.run())
    return Shop(there)


@pytest.mark.long
def test_a_model_is_shipped_as_it_was_retargeted(on_a_board, tmp_path, monkeypatch):
    @contextmanager
    def board(study, ledger, space, progress):
        there = replace(on_a_board.study, space=space)
        yield SimpleNamespace(device=there.device, pipeline=lambda: nullcontext(there.pipeline(ledger)))

    monkeypatch.setattr(prepare.finished_session, "opened", board)
    wanted = Wanted("knee", device="nano+threads2")
    bundle = ship(on_a_board.where, wanted, ShipOptions(tmp_path / "here"), Silent())
    described = json.loads((tmp_path / "here" / "bundle.json").read_text())
    assert described["device"]["name"] == "nano"
    assert described["protocol"]["threads"] == 2
    assert bundle.model.name.endswith("-nano+threads2")


def test_a_trial_that_was_not_measured_there_is_refused(on_a_board):
    with on_a_board.study.opened() as (study, ledger), pytest.raises(StudyError) as raised:
        choose(study, ledger, Wanted(9999, device="nano+threads2"))
    assert "no finished trial 9999 on nano+threads2; measured there: 0, " in str(raised.value)


def test_the_baseline_is_shipped(shop, tmp_path, monkeypatch):
    @contextmanager
    def opened(study, ledger, space, progress):
        yield SimpleNamespace(device=shop.study.device, pipeline=lambda: nullcontext(shop.study.pipeline(ledger)))

    monkeypatch.setattr(prepare.finished_session, "opened", opened)
    bundle = ship(shop.where, Wanted("baseline"), ShipOptions(tmp_path / "here"), Silent())
    assert bundle.model.name == "fake-baseline"
    assert bundle.model.trial is None
    card = " ".join((tmp_path / "here" / "README.md").read_text().split())
    assert "the unpruned `fake_vit`, exported by vitsearch (baseline of study fake), as a file for" in card


def test_what_has_no_exported_model_is_not_shipped(shop):
    with shop.study.opened() as (study, ledger):
        records = study.records()
        number = next(n for n, record in records.items() if record.outcome == "not_promoted")
        with pytest.raises(StudyError) as raised:
            choose(study, ledger, Wanted(number))
        assert str(raised.value) == (
            f"trial {number} of study 'fake' has no exported model: not_promoted: {records[number].reason}"
        )
        with pytest.raises(StudyError, match=r"study 'fake' has no finished trial 9999; its trials are 0 to \d+"):
            choose(study, ledger, Wanted(9999))
