import pickle

import pytest

from vitsearch_agent import errors
from vitsearch_agent.errors import AgentError, MeasurementFailed, error_from_json

PLAIN = [
    getattr(errors, name)("what happened", {"key": 1})
    for name in errors.__doc__.split()
    if hasattr(errors, name) and name not in ("AgentError", "MeasurementFailed")
]
ALL = [AgentError("odd", "strange", True), MeasurementFailed("crash", "crashed", {"n": 1}), *PLAIN]


def test_docstring_names_every_class():
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, AgentError)
    }
    assert classes <= set(errors.__doc__.split())
    assert len(PLAIN) == len(classes) - 2


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.code)
def test_errors_survive_json_and_pickle(error):
    for copy in (error_from_json(error.to_json()), pickle.loads(pickle.dumps(error))):
        assert type(copy) is type(error)
        assert copy.to_json() == error.to_json()
        assert str(copy) == str(error)


def test_docstring_marks_transient_errors():
    lines = {line.partition("-- ")[2].split()[0]: line for line in errors.__doc__.splitlines() if "--" in line}
    for error in PLAIN:
        assert error.transient == ("transient" in lines[type(error).__name__].split())


def test_unknown_failure_kind_is_refused():
    with pytest.raises(ValueError, match="crash, timeout"):
        MeasurementFailed("explosion", "?")


@pytest.mark.parametrize("value", [None, [], {}, {"code": 3}, {"code": "new", "retryable": True}])
def test_an_unknown_or_malformed_error_becomes_an_agent_error(value):
    error = error_from_json(value)
    assert isinstance(error, AgentError)
    assert error.transient == (value == {"code": "new", "retryable": True})
