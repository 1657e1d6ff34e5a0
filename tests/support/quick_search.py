"""The command line with short measurements: `python -m support.quick_search run space.yaml`.

A real device measures by the real protocols for some six seconds a screen and twenty a confirmation, which is most of
the time of a search with tiny models. Tests of what a search does beside measuring need one process of a few runs.
"""

from vitsearch.cli.app import main
from vitsearch.devices import protocols
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

QUICK = ONE_PROCESS._replace(warmup_min_runs=10, warmup_min_s=0.0, min_runs=11, min_s=0.0)


def shorten() -> None:
    """Make all measurements of this process short."""
    protocols.SCREEN = QUICK._replace(id="screen-quick")  # type: ignore[misc]
    protocols.CONFIRM = QUICK._replace(id="confirm-quick", processes=2, max_processes=2)  # type: ignore[misc]


if __name__ == "__main__":
    shorten()
    main()
