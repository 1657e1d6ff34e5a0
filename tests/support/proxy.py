"""A network between client and agent that can be slow, cut, and wrong: real sockets, a thread for each direction."""

import contextlib
import socket
import struct
import threading
import time

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes on to a port of this machine.

    `rate` bytes a second each way, None as fast as it goes. `on_up` and `on_down` see what goes to the
    agent and comes from it, and return what is passed on; they may call `cut`.
    """

    def __init__(self, port, rate=None):
        self.rate = rate
        self.up_bytes = 0
        self.on_up = self.on_down = lambda data: data
        self._port = port
        self._is_cut = False
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self._lines = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Reset every connection and let no other come through, until `mend`."""
        self._is_cut = True
        for line in list(self._lines):
            _reset(line)

    def cut_for(self, seconds):
        self.cut()
        threading.Timer(seconds, self.mend).start()

    def mend(self):
        self._is_cut = False

    def close(self):
        # A thread in accept() keeps the port open: shutdown wakes it up.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in list(self._lines):
            _reset(line)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                _reset(near)
                continue
            far = socket.create_connection(("127.0.0.1", self._port))
            self._lines |= {near, far}
            for source, target, is_up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass_on, args=(source, target, is_up), daemon=True).start()

    def _pass_on(self, source, target, is_up):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                if is_up:
                    self.up_bytes += len(data)
                data = self.on_up(data) if is_up else self.on_down(data)
                if self.rate is not None:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
        except OSError:
            pass
        for line in (source, target):
            self._lines.discard(line)
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()


def _reset(line):
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        line.shutdown(socket.SHUT_RD)
    line.close()
