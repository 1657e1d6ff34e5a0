"""The stages of these tests are functions of the tests, which Ray's workers import: they lie in no package."""

import os

import pytest

from support import REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def tests_are_importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", REPOSITORY, prepend=os.pathsep)
        yield
