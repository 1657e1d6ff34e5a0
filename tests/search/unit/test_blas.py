"""Threads of linear algebra."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from vitsearch.blas import one_blas_thread


def threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_linear_algebra_has_one_thread_within_and_its_own_number_afterwards():
    with one_blas_thread():
        before = threads()  # the libraries are loaded by now
    usual = threads()
    with one_blas_thread():
        assert set(threads()) == {1} == set(before)
    assert threads() == usual
