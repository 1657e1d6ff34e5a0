"""Accepts connections, with TLS or without: a thread for each, so many at a time and from one address."""

import contextlib
import logging
import socket
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from typing import Any, Callable, Optional, Tuple, Type

from vitsearch_evaluators.agent.http.rate_limits import Connections

logger = logging.getLogger(__name__)

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


Encrypt = Callable[[socket.socket], socket.socket]
"""Shakes hands with a client and returns the line that both keep to themselves."""


class Listener(ThreadingMixIn, TCPServer):
    """No step of a connection, its TLS handshake included, is waited for by another."""

    daemon_threads = True
    allow_reuse_address = True  # or a restart would wait until the old lines are forgotten
    request_queue_size = 32

    def __init__(
        self,
        address: Tuple[str, int],
        handler: Type[BaseRequestHandler],
        encrypt: Optional[Encrypt],
        connections: Connections,
    ) -> None:
        self._encrypt = encrypt
        self._connections = connections
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    @property
    def server_port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.enter(client_address[0]):
            if self._encrypt is None:
                request.settimeout(0.0)
                with contextlib.suppress(OSError):
                    request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._connections.leave(client_address[0])
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.leave(client_address[0])

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._encrypt is None:
            super().finish_request(request, client_address)
            return
        encrypted = self._encrypt(request)
        try:
            super().finish_request(encrypted, client_address)
        finally:
            self.shutdown_request(encrypted)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection from %s broke", client_address, exc_info=True)
