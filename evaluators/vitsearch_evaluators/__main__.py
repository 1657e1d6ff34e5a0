"""Run `vitsearch-agent` as `python -m vitsearch_evaluators`."""

import sys

from vitsearch_evaluators.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
