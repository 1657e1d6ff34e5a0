"""What tests of both distributions use."""

import importlib.util
import os

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def make_proxy():
    """make_proxy(port) -> Proxy (see evaluators/proxy.py), closed with the test."""
    spec = importlib.util.spec_from_file_location("vitsearch_test_proxy", os.path.join(HERE, "evaluators", "proxy.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    proxies = []

    def make(port, **settings):
        proxies.append(module.Proxy(port, **settings))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
