"""One thread at a time imports what is only imported when it is needed.

Python does so by itself, but not for a zip before 3.10: there a module is seen by the others as soon as it has a
name, before it has anything in it. An agent that was just started from its one file meets all its clients so.
"""

import threading

IMPORTING = threading.RLock()
"""Held around an import inside of a function that several threads of an agent may call."""
