"""A TCP proxy between client and agent that can be slow, cut connections and damage bytes.

It uses real sockets and one thread for each direction.
"""

import contextlib
import socket
import struct
import threading
import time

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards bytes to a port of this machine.

    `rate` limits each direction in bytes per second (None: no limit). `on_up` and `on_down` get the bytes for and
    from the agent and return the bytes to forward; they may call `cut`.
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
        self._sockets = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Reset every connection and refuse new ones, until `restore`."""
        self._is_cut = True
        for sock in list(self._sockets):
            _reset(sock)

    def cut_for(self, seconds):
        """Cut, and restore after some seconds."""
        self.cut()
        threading.Timer(seconds, self.restore).start()

    def restore(self):
        self._is_cut = False

    def close(self):
        # A thread in accept() keeps the port open: shutdown wakes it up.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._sockets):
            _reset(sock)

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
            self._sockets |= {near, far}
            for source, target, is_up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._forward, args=(source, target, is_up), daemon=True).start()

    def _forward(self, source, target, is_up):
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
        for sock in (source, target):
            self._sockets.discard(sock)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def _reset(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        sock.shutdown(socket.SHUT_RD)
    sock.close()
