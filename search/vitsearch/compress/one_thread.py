"""One thread for the arithmetic of closed-form fits, so that weights do not depend on how many there are.

With several threads LAPACK and BLAS split a factorisation or a long sum among them, and then add in another order.
Of what a refit does, this changed the last bits of (1 and 2 threads of an AMD EPYC with AVX2; for torch up to 8,
2026-11-29; vit_fmnist_p4, efficientvit_fmnist and mobilevit_fmnist):

    numpy    solve, inv, cholesky; some products of matrices
    torch    linalg.solve from 192 columns on; with 8 threads products over 8192 rows

The passes through the models, means, norms and batch norms were equal with 1 and 2 threads, bit by bit. On an Intel
Xeon with AMX (2026-11-30) the second moments of the statistics differ too, products over some 10,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitsearch.blas import one_blas_thread


@contextmanager
def one_thread() -> Iterator[None]:
    """numpy and torch compute in one thread of this process; also a decorator."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        torch.set_num_threads(before)
