"""What tests of both distributions use."""

import os

import pytest

from support.proxy import Proxy

pytest_plugins = ["support.outcomes"]

# One thread for each test and for every process that it starts, set before any test module imports numpy or torch:
# two workers whose thread pools are each as wide as the machine wait for each other.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Measurements of one user take turns, and so would those of tests that run at the same time."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


TIERS = ("system", "component", "unit")


def pytest_collection_modifyitems(items):
    """Start the long tests first, so that no worker begins one when the others have ended."""
    items.sort(key=lambda item: [name not in item.path.parts for name in TIERS])


@pytest.fixture
def make_proxy():
    """make_proxy(port) -> Proxy (see support/proxy.py), closed with the test."""
    proxies = []

    def make(port, **settings):
        proxies.append(Proxy(port, **settings))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
