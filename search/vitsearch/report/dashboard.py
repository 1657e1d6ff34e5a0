"""optuna-dashboard on the database of a study, where it is installed."""

from __future__ import annotations

from collections.abc import Callable

from vitsearch.errors import ResourceError
from vitsearch.report.serve import HOST, listener_on
from vitsearch.study.lookup import find, opened


def dashboard(study_argument: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard on this machine until Ctrl-C; `ready` gets the address.

    Raises `ResourceError` where it is not installed, and for a port that is taken.
    """
    with opened(study_argument):
        pass  # one clear error where there is no such study
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ResourceError(
            "optuna-dashboard is not installed; install it with: pip install optuna-dashboard"
        ) from None
    with listener_on(port) as free:
        port = free.getsockname()[1]
    ready(f"http://{HOST}:{port}/")
    # in this process, so that no password of the database stands in a list of processes
    run_server(find(study_argument).storage, host=HOST, port=port)
