"""What tests of both distributions use."""

import pytest

from support.proxy import Proxy


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
