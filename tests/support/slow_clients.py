"""Clients that send a request too slowly, or none."""

import time


def closed_by_server(clients, text):
    """Send a byte of `text` to each client now and then, for up to a minute; return how many the server has closed."""
    left, until, sent = set(clients), time.monotonic() + 60.0, 0
    while left and time.monotonic() < until:
        for client in list(left):
            try:
                if sent < len(text):
                    client.sendall(text[sent : sent + 1])
                client.setblocking(False)
                while client.recv(1 << 16):
                    pass
                left.remove(client)
            except BlockingIOError:
                client.setblocking(True)
            except OSError:
                left.remove(client)
        sent += 1
        time.sleep(0.5)
    return len(clients) - len(left)
