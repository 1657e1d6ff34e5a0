"""The examples of Ray clusters in docs/examples: what can be checked of them without Kubernetes and other machines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support import REPOSITORY

DOCS = Path(REPOSITORY, "docs")
RAY = re.compile(r"ray==(\S+)").search(Path(REPOSITORY, "constraints.txt").read_text())[1]


@pytest.fixture(scope="module")
def kuberay():
    return list(yaml.safe_load_all((DOCS / "examples" / "kuberay.yaml").read_text()))


def pods(cluster):
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_ray_accepts_the_example_of_its_cluster_launcher():
    from ray.autoscaler._private.util import prepare_config, validate_config

    asked = yaml.safe_load((DOCS / "examples" / "ray_up.yaml").read_text())
    prepared = prepare_config(asked)
    validate_config(prepared)
    assert prepared["max_workers"] == len(asked["provider"]["worker_ips"])


def test_every_pod_has_the_same_image_and_the_shared_folder_under_the_same_path(kuberay):
    cluster, claim = kuberay
    (claimed,) = {volume["persistentVolumeClaim"]["claimName"] for pod in pods(cluster) for volume in pod["volumes"]}
    assert claimed == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    containers = [container for pod in pods(cluster) for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert {mount["mountPath"] for container in containers for mount in container["volumeMounts"]} == {"/vit"}


def test_the_head_runs_no_stages_and_a_first_worker_is_there_from_the_start(kuberay):
    spec = kuberay[0]["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(group["minReplicas"] > 0 for group in spec["workerGroupSpecs"])


def test_every_example_has_the_version_of_ray_that_is_tested(kuberay):
    assert kuberay[0]["spec"]["rayVersion"] == RAY
    for path in (DOCS / "examples" / "ray_up.yaml", DOCS / "ray_cluster.md"):
        assert set(re.findall(r"(?:ray\[default\]==|rayproject/ray:)(\d+\.\d+\.\d+)", path.read_text())) == {RAY}
