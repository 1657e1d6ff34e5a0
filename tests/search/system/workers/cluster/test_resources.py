"""Addresses at which no Ray cluster answers."""

from __future__ import annotations

import socket

import pytest

from vitsearch.errors import ResourceError
from vitsearch.workers.cluster.resources import Resources, require_cluster
from vitsearch.workers.ray_runner import RayRunner


def test_an_address_where_nobody_listens_is_refused_in_one_line(capfd, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    message = rf"^no Ray cluster answers at {address} \(--ray-address or RAY_ADDRESS\): Connection refused$"
    with pytest.raises(ResourceError, match=message):
        RayRunner(Resources(1, 1, 0.0), tmp_path, address)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_no_cluster_is_refused_after_a_bounded_time(capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResourceError, match=rf"no Ray cluster answers at {address} .* within 0.5 s$"):
            require_cluster(address, wait_s=0.5)
    assert capfd.readouterr() == ("", "")
