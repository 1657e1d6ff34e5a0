"""What tests of both distributions use."""

import os
import shutil
import sys
import tempfile

import pytest

from support.proxy import Proxy

pytest_plugins = ["support.outcomes", "support.schedule"]

# One thread for each test and for every process that it starts, set before any test module imports numpy or torch:
# two workers whose thread pools are each as wide as the machine wait for each other.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

try:
    import hypothesis
except ImportError:  # the agent's tests run without it
    pass
else:
    hypothesis.settings.register_profile("vitsearch", deadline=None)  # no wall clock in a test
    hypothesis.settings.load_profile("vitsearch")

# Hundreds of processes import the same modules: each would compile them again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _move_home():
    """Give this process and its children a home of their own, before a library that writes there is imported.

    What they need of the user's home is found by a variable: the Pythons of pyenv, and what pip has downloaded.
    """
    os.environ.setdefault("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    os.environ.setdefault("PIP_CACHE_DIR", os.path.expanduser("~/.cache/pip"))
    home = tempfile.mkdtemp(prefix="vitsearch-home-")
    os.environ["HOME"] = home
    os.environ["XDG_CACHE_HOME"] = os.path.join(home, ".cache")
    os.environ.pop("XDG_CONFIG_HOME", None)
    return home


_HOME = _move_home()


def pytest_unconfigure():
    shutil.rmtree(_HOME, ignore_errors=True)


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
