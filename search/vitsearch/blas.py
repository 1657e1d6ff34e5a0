"""One thread for NumPy's and scipy's linear algebra: small systems take longer when threads share them, and several
processors. A Cholesky factor of 28 rows took 119 ms in the threads of a whole machine, .1 ms in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    """Those of this process: to look for them takes 1.2 ms, and a refit asks dozens of times."""
    import scipy.linalg  # noqa: F401  it brings a second library, which would not be found before
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy and scipy compute in one thread of this process; also a decorator."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield
