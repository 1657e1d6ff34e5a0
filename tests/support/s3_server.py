"""A server that speaks S3, on a port of this machine."""

import threading
from contextlib import contextmanager

SECONDS = 60
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server():
    """The environment in which programs find the server, for the block."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started = threading.Thread(target=server.start, daemon=True)  # it waits without end for its port
    started.start()
    started.join(SECONDS)
    if started.is_alive():
        raise TimeoutError(f"the S3 server did not start within {SECONDS} s")
    host, port = server.get_host_and_port()
    try:
        yield KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    finally:
        server.stop()
