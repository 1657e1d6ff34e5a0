"""Paths and helpers for the tests of both distributions, with fake programs that tests run."""

import os

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPOSITORY = os.path.dirname(TESTS)
SUPPORT = os.path.join(TESTS, "support")
SPACE_FILES = os.path.join(TESTS, "search", "unit", "space")
GOLDEN = os.path.join(TESTS, "search", "golden")
AGENT_HOME = os.path.join(REPOSITORY, "evaluators")
"""The folder to put on a path so that `vitsearch_agent` can be imported."""
PYTHON_PATH = os.pathsep.join(os.path.join(REPOSITORY, folder) for folder in ("search", "evaluators", "tests"))
"""The path of a process that a test starts. Not `sys.path`: test modules of the same process add folders of theirs."""
