"""The folders of a user for files of this package, by the XDG base directory specification."""

import os


def user_cache_folder() -> str:
    """Return the folder for files that may be lost: `vitsearch` in $XDG_CACHE_HOME, or in ~/.cache without one."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # the specification: a relative path counts as none
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "vitsearch")
