"""Accept connections, with or without TLS: one thread for each, limited in total and for each address."""

import contextlib
import logging
import socket
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from typing import Any, Callable, Optional, Tuple, Type

from vitsearch_agent.server.http.rate_limits import Connections

logger = logging.getLogger(__name__)

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


Encrypt = Callable[[socket.socket], socket.socket]
"""Does the TLS handshake on a socket and returns the encrypted one."""


class Listener(ThreadingMixIn, TCPServer):
    """A server in which no connection waits for another one, not even for its TLS handshake."""

    daemon_threads = True
    allow_reuse_address = True  # else a restart would wait until the kernel forgets the old connections
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
        except RuntimeError:  # cannot start a thread
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
        logger.debug("the connection from %s failed", client_address, exc_info=True)
