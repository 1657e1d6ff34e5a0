"""A script with short measurements: `python -m support.quick_script FILE ARGUMENTS`. See `quick_search`."""

import runpy
import sys

from support.quick_search import shorten

if __name__ == "__main__":
    shorten()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
