"""`vitsearch serve` in a thread of a test."""

import socket
import threading
from contextlib import closing, contextmanager

import uvicorn

from vitsearch.report.live import LiveStudy
from vitsearch.report.serve import application, config

TOKEN = "a-token"


@contextmanager
def server(asked, note=print):
    """A server in a thread; gives its port. `note` gets a line when the study is gone."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with closing(LiveStudy(asked)) as live:
        running = uvicorn.Server(config(application(live, TOKEN, lambda: running.should_exit, note)))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()
            listener.close()
