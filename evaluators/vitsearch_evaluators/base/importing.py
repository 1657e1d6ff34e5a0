"""A lock for imports inside functions, so that one thread at a time imports.

Before 3.10 Python does not do this for modules in a zip file: other threads can see a module before its code has
run. That happened to an agent that was started from its .pyz and got many requests at once.
"""

import threading

IMPORTING = threading.RLock()
"""Hold it around an import inside a function that several threads of an agent may call."""
