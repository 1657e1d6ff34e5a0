"""vitsearch.space.files: overrides and `extends`."""

import os
import resource
import socket
from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import SpaceError
from vitsearch.space import SearchSpace, load

SMALL = Path(SPACE_FILES, "small.yaml")


def problems(path, overrides=()):
    with pytest.raises(SpaceError) as caught:
        load(path, overrides)
    return list(caught.value.problems)


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_overrides():
    overrides = [
        "search.trials=10",
        "space.backbone=[vit_fmnist_p4, deit_tiny_patch16_224]",
        "space.ffn_pruning_ratio={low: 0, high: 0.5, step: 0.25}",
        "limits.accuracy=null",
        "limits.size_mb.max=2.5",
        "devices.pi.token=env:VITSEARCH_PI_TOKEN",
        "devices.pi.url=https://pi.local:8470",
    ]
    space = load(SMALL, overrides).space
    assert space.search.trials == 10
    assert space.choices()["backbone"] == ("vit_fmnist_p4", "deit_tiny_patch16_224")
    assert space.choices()["ffn_pruning_ratio"] == (0.0, 0.25, 0.5)
    assert list(space.limits) == ["size_mb"]
    assert space.device_names == ("pi",)


def test_invalid_overrides_are_reported_with_the_problems_of_the_file():
    overrides = [
        "search.trails=10",
        "search.seed=x",
        "storage",
        "space.resolution.0=5",
        "study=[",
        "a..b=1",
        "serch.x=1",
        "search.<list>=1",
    ]
    assert problems(SMALL, overrides) == [
        "override: 'storage' is not a valid key path; write KEY.PATH=VALUE, such as search.trials=10",
        "override: space.resolution.0: an item of a list cannot be overridden; give the whole list",
        "override: study: not valid YAML: a value is missing",
        "override: 'a..b' is not a valid key path; write KEY.PATH=VALUE, such as search.trials=10",
        "override: search.seed: must be a whole number, not 'x'",
        "override: search: unknown key 'trails'; did you mean 'trials'?",
        "override: search: unknown key '<list>'; allowed: budget, candidates, device_budget, duplicates_in_a_row, "
        "least_gain, margin, prior, sampler, seed, trainer_budget, trials",
        "override: unknown key 'serch'; did you mean 'search'?",
    ]


def test_an_override_of_a_secret_is_not_shown():
    problem_lines = problems(SMALL, ["devices.pi.url=https://pi", "devices.pi.token=hunter2"])
    assert problem_lines == [
        "override: devices.pi.token: a token does not belong in a space file; write env:VITSEARCH_NAME, an environment "
        "variable"
    ]


def test_extends_merges_key_by_key(tmp_path):
    write(
        tmp_path,
        child="extends: middle.yaml\nstudy: child\nspace: {resolution: [28]}\n"
        "limits: {accuracy: {max_drop: null}}\nobjectives: {size_mb: minimize}\n",
        middle=f"extends: {SMALL}\nsearch: {{trials: 5}}\nlimits: {{accuracy: {{min: 0.8}}}}\n",
    )
    space = load(tmp_path / "child.yaml").space
    assert space.study == "child"
    assert space.choices()["resolution"] == (ImageSize.square(28),)
    assert space.search.trials == 5
    assert (space.limits["accuracy"].min, space.limits["accuracy"].max_drop) == (0.8, None)
    assert list(space.objectives) == ["accuracy", "cpu_ms_p50", "size_mb"]


def test_problems_of_an_extended_file_name_it(tmp_path):
    parent = SMALL.read_text().replace("trials: 14", "trials: -2")
    write(tmp_path, child="extends: parent.yaml\nsearch: {seed: -1}\n", parent=parent)
    line = next(number for number, text in enumerate(parent.splitlines(), 1) if "trials: -2" in text)
    assert problems(tmp_path / "child.yaml") == [
        "line 2: search.seed: -1 is below 0; allowed: 0 or more",
        f"{tmp_path / 'parent.yaml'} line {line}: search.trials: -2 is below 0; allowed: 0 or more",
    ]


def test_extends_in_a_circle_is_refused(tmp_path):
    write(tmp_path, a="extends: b.yaml\n", b="study: b\nextends: a.yaml\n")
    with pytest.raises(SpaceError) as caught:
        load(tmp_path / "a.yaml")
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'b.yaml'}: 1 problem",
        "  line 2: extends: the files extend each other in a circle: a.yaml -> b.yaml -> a.yaml",
    ]


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("[a.yaml]", "line 1: extends: must be the name of a file"),
        ("''", "line 1: extends: must be the name of a file"),
        ("parnt.yaml", "line 1: extends: the file '{folder}/parnt.yaml' does not exist; did you mean 'parent.yaml'?"),
        (".", "line 1: extends: '{folder}' is a folder, not a space file"),
    ],
)
def test_extends_must_name_an_existing_file(tmp_path, extends, message):
    write(tmp_path, child=f"extends: {extends}\n", parent="")
    assert problems(tmp_path / "child.yaml") == [message.format(folder=tmp_path)]


def test_locations_of_values_and_overrides(tmp_path):
    source = load(SMALL, ["search.seed=1"]).source
    lines = SMALL.read_text().splitlines()
    assert "resolution:" in lines[source.location(("space", "resolution", 1)).line - 1]
    assert "limits:" in lines[source.location(("limits", "size_mb", "max")).line - 1]
    assert source.location(("search", "seed")).line == 0


def test_yaml_is_read_as_version_1_2(tmp_path):
    text = SMALL.read_text().replace("lr: 1e-4", "lr: 1E-4")
    write(tmp_path, on=text.replace("study: small", "study: on "))
    space = load(tmp_path / "on.yaml").space
    assert (space.study, space.task.fine_tune.lr) == ("on", 1e-4)


def test_devices_are_given_as_a_list_or_a_mapping():
    listed, mapped = load(SMALL, ["devices=[nano]"]).space, load(SMALL, ["devices={nano: {}}"]).space
    assert listed.devices == mapped.devices
    assert listed.device_names == ("nano",)
    assert SearchSpace.from_json(listed.to_json()) == listed
    assert "is not a valid device name" in problems(SMALL, ["devices=[Nano]"])[0]


TOKEN = "devices: {nano: {url: 'https://nano.example:8470', token: 'env:VITSEARCH_NANO'}}\n"


def with_base(folder, text):
    """A file that takes all but `text` from a file whose device has a token."""
    (folder / "base.yaml").write_text(SMALL.read_text() + TOKEN)
    (folder / "child.yaml").write_text(f"extends: base.yaml\nstudy: child\n{text}")
    return folder / "child.yaml"


def test_the_address_of_a_token_cannot_be_changed_by_an_override(tmp_path):
    base = with_base(tmp_path, "").with_name("base.yaml")
    line = len(SMALL.read_text().splitlines()) + 1
    assert problems(base, ["devices.nano.url=https://evil.example"]) == [
        "override: devices.nano.url: 'https://evil.example' is not the address beside the token of "
        f"{base} line {line}; write url, fingerprint and token in one place"
    ]
    both = ["devices.nano.url=https://evil.example", "devices.nano.token=env:VITSEARCH_MINE"]
    assert load(base, both).space.devices["nano"].token == "env:VITSEARCH_MINE"
    assert load(base, both[1:]).space.devices["nano"].url == "https://nano.example:8470"


def test_the_address_of_a_token_cannot_be_changed_by_a_file_that_extends(tmp_path):
    child = with_base(tmp_path, "devices: {nano: {url: 'https://evil.example'}}\n")
    (problem,) = problems(child)
    assert problem.startswith(
        "line 3: devices.nano.url: 'https://evil.example' is not the address beside the token of "
    )


def test_the_certificate_for_a_token_cannot_be_changed_by_a_file_that_extends(tmp_path):
    child = with_base(tmp_path, f"devices: {{nano: {{fingerprint: 'sha256:{'ab' * 32}'}}}}\n")
    (problem,) = problems(child)
    assert problem.startswith("line 3: devices.nano.fingerprint: this is not the certificate beside the token of ")


def test_a_token_cannot_be_added_to_the_address_of_another_file(tmp_path):
    child = with_base(tmp_path, "devices: {nano: {token: 'env:VITSEARCH_OTHER'}}\n")
    (problem,) = problems(child)
    assert "devices.nano.url: 'https://nano.example:8470' is not the address beside the token of" in problem


def test_the_address_of_a_token_of_a_board_cannot_be_changed(tmp_path):
    boards = "devices: {nano: {boards: {a: {url: 'https://a.example', token: 'env:VITSEARCH_A'}}}}\n"
    path = tmp_path / "boards.yaml"
    path.write_text(SMALL.read_text() + boards)
    (problem,) = problems(path, ["devices.nano.boards.a.url=https://evil.example"])
    assert problem.startswith("override: devices.nano.boards.a.url: 'https://evil.example' is not the address")


def test_a_file_that_extends_keeps_address_and_token(tmp_path):
    assert load(with_base(tmp_path, "")).space.devices["nano"].token == "env:VITSEARCH_NANO"


def make(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
            patch.chdir(path.parent)  # the name of a socket is short
            server.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "aliases":
        lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
        path.write_text("\n".join(lines))
    elif kind == "nul":
        path.write_bytes(b"study: a\0b\n")
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 30)  # a sparse file


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "is no file that ends, not a space file"),
        ("socket", "is no file that ends, not a space file"),
        ("device", "is no file that ends, not a space file"),
        ("dangling", "does not exist"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("aliases", "line 1: anchors (&) and aliases (*) are not allowed; write the value out"),
        ("nul", "character 0 is not allowed in YAML"),
        ("1 GB", "the file is too large for a space file; allowed: up to 1,000,000 bytes"),
    ],
)
@pytest.mark.parametrize("is_extended", [False, True])
def test_what_cannot_be_a_space_file_is_one_line_and_takes_no_memory(tmp_path, kind, said, is_extended):
    make(kind, tmp_path / "hostile.yaml")
    write(tmp_path, child="extends: hostile.yaml")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (problem,) = problems(tmp_path / ("child.yaml" if is_extended else "hostile.yaml"))
    assert said in problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("name", ["x" * 300 + ".yaml", "a\0b.yaml"])
def test_a_name_that_no_file_can_have_is_one_line(name):
    (problem,) = problems(name)
    assert "cannot be read" in problem
