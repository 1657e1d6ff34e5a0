"""The examples of Ray clusters in docs/examples: what can be checked of them without Kubernetes and other machines."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import vitsearch
from support import REPOSITORY

DOCS = Path(REPOSITORY, "docs")
DOCKERFILE, RAY_UP = DOCS / "examples" / "Dockerfile", DOCS / "examples" / "ray_up.yaml"
WHEELS = {f"{name}-{vitsearch.__version__}-py3-none-any.whl" for name in ("vitsearch", "vitsearch_agent")}
RAY = re.compile(r"(?m)^ray==(\S+)").search(Path(REPOSITORY, "constraints/vitsearch.txt").read_text())[1]


def instructions():
    """The lines of the Dockerfile: (name, words)."""
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name.isupper()]


def installs():
    """The words of each line of an example that installs the wheels by name."""
    commands = [rest for name, rest in instructions() if name == "RUN"]
    commands += yaml.safe_load(RAY_UP.read_text())["setup_commands"]
    return [words for words in map(shlex.split, commands) if any(word.endswith("[postgresql,s3]") for word in words)]


@pytest.fixture(scope="module")
def kuberay():
    return list(yaml.safe_load_all((DOCS / "examples" / "kuberay.yaml").read_text()))


def pods(cluster):
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_ray_accepts_the_example_of_its_cluster_launcher():
    from ray.autoscaler._private.util import prepare_config, validate_config

    asked = yaml.safe_load(RAY_UP.read_text())
    prepared = prepare_config(asked)
    validate_config(prepared)
    assert prepared["max_workers"] == len(asked["provider"]["worker_ips"])


def test_every_pod_has_the_same_image_and_the_shared_folder_under_the_same_path(kuberay):
    cluster, claim, *_ = kuberay
    (claimed,) = {volume["persistentVolumeClaim"]["claimName"] for pod in pods(cluster) for volume in pod["volumes"]}
    assert claimed == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    containers = [container for pod in pods(cluster) for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert {mount["mountPath"] for container in containers for mount in container["volumeMounts"]} == {"/vit"}


def test_the_image_is_made_of_the_two_wheels_of_make_wheels():
    (copied,) = [rest.split() for name, rest in instructions() if name == "COPY"]
    assert set(copied[:-1]) == WHEELS
    assert copied[-1] == "/tmp/wheels/"
    assert "-f docs/examples/Dockerfile dist" in DOCKERFILE.read_text(), "the folder from which they are copied"


def test_the_cluster_launcher_copies_the_folder_of_make_wheels():
    makefile = Path(REPOSITORY, "Makefile").read_text()
    assert "--wheel-dir dist " in makefile
    assert yaml.safe_load(RAY_UP.read_text())["file_mounts"]["/home/vit/wheels"] == "dist"


def test_what_is_installed_are_the_wheels_with_extras_that_there_are():
    extras = tomllib.loads(Path(REPOSITORY, "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert len(installs()) == 2
    for words in installs():
        wheels = [Path(word) for word in words if ".whl" in word]
        assert {wheel.name.partition("[")[0] for wheel in wheels} == WHEELS
        assert {str(wheel.parent) for wheel in wheels} <= {"/tmp/wheels", "/home/vit/wheels"}
        assert {"postgresql", "s3"} <= set(extras)


@pytest.mark.long
def test_pip_installs_what_the_examples_say(tmp_path):
    """Without the libraries, which are gigabytes."""
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip"]
    make = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), f"{REPOSITORY}/evaluators", REPOSITORY]
    subprocess.run(make, check=True)
    assert {path.name for path in wheels.iterdir()} == WHEELS
    for index, words in enumerate(installs()):
        asked = [re.sub(r"^\S*/wheels", str(wheels), word) for word in words if ".whl" in word]
        target = tmp_path / f"installed-{index}"
        done = subprocess.run(
            [*pip, "install", "--no-deps", "--no-index", "--target", str(target), *asked],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "does not provide the extra" not in done.stderr
        assert (target / "vitsearch").is_dir()
        assert (target / "vitsearch_agent").is_dir()


def test_every_secret_is_there_and_only_the_head_has_the_password_of_the_database(kuberay):
    cluster, _, *secrets = kuberay
    keys = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in secrets}
    head, workers = [
        [keys[source["secretRef"]["name"]] for container in pod["containers"] for source in container["envFrom"]]
        for pod in pods(cluster)
    ]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set().union(*workers)
    assert set().union(*head) - set().union(*workers) == {"PGPASSWORD"}


def test_the_user_of_the_image_may_write_to_the_volume(kuberay):
    assert [pod["securityContext"]["fsGroup"] for pod in pods(kuberay[0])] == [100, 100]


def test_workers_come_and_go_with_the_stages(kuberay):
    spec = kuberay[0]["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]


def test_the_head_runs_no_stages_and_a_first_worker_is_there_from_the_start(kuberay):
    spec = kuberay[0]["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(group["minReplicas"] > 0 for group in spec["workerGroupSpecs"])


def test_every_example_has_the_version_of_ray_that_is_tested(kuberay):
    assert kuberay[0]["spec"]["rayVersion"] == RAY
    for path in (DOCKERFILE, RAY_UP):
        assert set(re.findall(r"(?:ray\[default\]==|rayproject/ray:)(\d+\.\d+\.\d+)", path.read_text())) == {RAY}
