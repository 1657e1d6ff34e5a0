"""The report over HTTP while the study runs: on this machine only, read-only, for those who have the address.

    GET /TOKEN/            the page
    GET /TOKEN/data.json   what it draws from
    GET /TOKEN/events      server-sent events: ``version`` when there is something new, ``problem`` with a text when the
                           study cannot be read

Any other path, and any other token, gets an empty 404.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from vitsearch.errors import ResourceError
from vitsearch.report.live import LiveStudy
from vitsearch.report.page import policy

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
LOOK_S = 0.5
"""How often the database is asked whether there is something new, while a page is open."""
BEAT_S = 10.0
"""How often a page gets a line although there is nothing new, so that both sides notice a lost connection."""
HEADERS = {
    "Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
T = TypeVar("T")


def serve(study: LiveStudy, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. ``ready`` gets the address with its token; port 0 is any free one.

    Raises :class:`~vitsearch.errors.ResourceError` where the libraries are missing or the port is taken.
    """
    try:
        import uvicorn  # starlette and uvicorn: the extra 'serve'
    except ImportError:
        raise missing() from None
    token = secrets.token_urlsafe(24)
    app = application(study, token, lambda: server.should_exit)
    # the access log would show the token
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
    with listener_on(port) as listener:
        ready(f"http://{HOST}:{listener.getsockname()[1]}/{token}/")
        server.run(sockets=[listener])


def missing() -> ResourceError:
    return ResourceError(
        "vitsearch serve needs starlette and uvicorn; install them with: pip install 'vitsearch[serve]'"
    )


def listener_on(port: int) -> socket.socket:
    """A socket of this machine that listens; :class:`ResourceError` for a port that is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # before the address is shown
    except OSError as error:
        listener.close()
        raise ResourceError(
            f"port {port} of {HOST} cannot be used: {error.strerror}; name another one with --port, or 0 for a free one"
        ) from None
    return listener


def application(study: LiveStudy, token: str, is_ending: Callable[[], bool]) -> Starlette:
    """The ASGI application. Its streams of events end when ``is_ending``."""
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route
    except ImportError:
        raise missing() from None
    reader = _Reader(study, is_ending)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(reader.follow())
        try:
            yield
        finally:
            task.cancel()

    routes = [Route("/", reader.page), Route("/data.json", reader.data), Route("/events", reader.events)]
    # a page of another site that has found a name for 127.0.0.1 gets no answer either
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[Middleware(_OnlyWithToken, token=token), hosts], lifespan=lifespan)


class _OnlyWithToken:
    """ASGI middleware: removes the token from the path, and answers 404 where it is not there."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)  # type: ignore[no-any-return]
        given, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(given.encode(), self._token):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body"})  # type: ignore[no-any-return]
        return await self._app(dict(scope, path=f"/{rest}", raw_path=None), receive, send)  # type: ignore[no-any-return]


class _Reader:
    """Reads the study in a thread of its own, and answers."""

    def __init__(self, study: LiveStudy, is_ending: Callable[[], bool]) -> None:
        self._study = study
        self._is_ending = is_ending
        self._thread = ThreadPoolExecutor(1)
        self._watching = 0
        self._problem: str | None = None

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        await self._look()
        return HTMLResponse(await self._in_thread(self._study.page), headers=HEADERS)

    async def data(self, request: Request) -> Response:
        from starlette.responses import Response

        found = await self._in_thread(self._study.data)
        return Response(found, media_type="application/json", headers=HEADERS)

    async def events(self, request: Request) -> Response:
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._events(), media_type="text/event-stream", headers=HEADERS)

    async def follow(self) -> None:
        """Look at the study while anybody watches."""
        while True:
            if self._watching:
                await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        try:
            await self._in_thread(self._study.look)
            self._problem = None
        except Exception as error:  # noqa: BLE001  the border of the server: a database may be away for a while
            self._problem = f"{type(error).__name__}: {error}"

    async def _events(self) -> AsyncIterator[str]:
        sent: tuple[int, str | None] = (0, None)
        silent_s = 0.0
        self._watching += 1
        try:
            while not self._is_ending():
                now = self._study.version, self._problem
                if now != sent or silent_s >= BEAT_S:
                    yield _event(*now)
                    sent, silent_s = now, 0.0
                await asyncio.sleep(LOOK_S / 2)
                silent_s += LOOK_S / 2
        finally:
            self._watching -= 1

    async def _in_thread(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)


def _event(version: int, problem: str | None) -> str:
    if problem is not None:
        return f"event: problem\ndata: {json.dumps(problem)}\n\n"
    return f"event: version\ndata: {version}\n\n"
