"""The report over HTTP while the study runs: on this machine only, read-only, for those who have the address.

    GET /TOKEN/            the page
    GET /TOKEN/data.json   what it draws from
    GET /TOKEN/events      server-sent events: `version` when there is something new, `problem` with a text when the
                           study cannot be read

Any other path, and any other token, gets an empty 404; a name that is not one of this machine gets a 421, a study that
was deleted a 410, one that cannot be read a 503. A connection on which no request arrives soon is closed.
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

from vitsearch.errors import ResourceError, VitsearchError
from vitsearch.report.live import LiveStudy
from vitsearch.report.page import policy
from vitsearch.search.observers.host_names import MISDIRECTED, HostNames

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
LOOK_S = 0.5
"""How often the database is asked whether there is something new, while a page is open."""
FIND_S = 5.0
"""How often it is asked whether the study is there, while no page is open."""
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


def serve(study: LiveStudy, port: int, ready: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. `ready` gets the address with its token; port 0 is any free one. `note` gets a line when
    the study is gone.

    Raises `ResourceError` where the libraries are missing or the port is taken.
    """
    try:
        import uvicorn  # starlette and uvicorn: the extra 'serve'
    except ImportError:
        raise missing() from None
    token = secrets.token_urlsafe(24)
    server = uvicorn.Server(config(application(study, token, lambda: server.should_exit, note)))
    with listener_on(port) as listener:
        ready(f"http://{HOST}:{listener.getsockname()[1]}/{token}/")
        server.run(sockets=[listener])


def config(app: Starlette) -> uvicorn.Config:
    """The settings of the server of `application`."""
    import uvicorn  # as above

    from vitsearch.report.bounded_protocol import BACKLOG, BoundedProtocol

    # The access log would show the token; a warning is a line for each request that is not valid.
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=2,
        log_level="error",
        access_log=False,
    )


def missing() -> ResourceError:
    return ResourceError(
        "vitsearch serve needs starlette and uvicorn; install them with: pip install 'vitsearch[serve]'"
    )


def listener_on(port: int) -> socket.socket:
    """A socket of this machine that listens; `ResourceError` for a port that is taken."""
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


def application(study: LiveStudy, token: str, is_ending: Callable[[], bool], note: Callable[[str], None]) -> Starlette:
    """The ASGI application. Its streams of events end when `is_ending`; `note` gets a line when the study goes."""
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.routing import Route
    except ImportError:
        raise missing() from None
    reader = _StudyReader(study, is_ending, note)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(reader.follow())
        try:
            yield
        finally:
            task.cancel()

    routes = [Route("/", reader.page), Route("/data.json", reader.data), Route("/events", reader.events)]
    middleware = [Middleware(_OnlyWithToken, token=token), Middleware(_OnlyUnderOwnName, names=HostNames.of(HOST))]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


class _OnlyWithToken:
    """ASGI middleware: removes the token from the path, and answers 404 where it is not there."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)  # type: ignore[no-any-return]
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self._token):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body"})  # type: ignore[no-any-return]
        return await self._app(dict(scope, path=f"/{rest}", raw_path=None), receive, send)  # type: ignore[no-any-return]


class _OnlyUnderOwnName:
    """ASGI middleware: answers 421 to a request for another name, as of a page whose site lets it stand for us."""

    def __init__(self, app: Any, names: HostNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or hosts[0] not in self._names:
                refusal = PlainTextResponse(MISDIRECTED.format(host=", ".join(hosts)[:80]), 421, HEADERS)
                return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)  # type: ignore[no-any-return]


class _StudyReader:
    """Reads the study in a thread of its own, and answers."""

    def __init__(self, study: LiveStudy, is_ending: Callable[[], bool], note: Callable[[str], None]) -> None:
        self._study = study
        self._is_ending = is_ending
        self._note = note
        self._noted: str | None = None
        self._thread = ThreadPoolExecutor(1)
        self._watching = 0
        self._problem: str | None = None

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        await self._look()
        if refusal := await self._refusal():
            return refusal
        return HTMLResponse(await self._in_thread(self._study.page), headers=HEADERS)

    async def _refusal(self) -> Response | None:
        """The answer where there is nothing to show: the study is gone, or could not be read yet."""
        from starlette.responses import PlainTextResponse

        if not self._study.is_read:
            await self._look()
        if self._study.gone is not None:
            return PlainTextResponse(f"{self._study.gone}\n", 410, HEADERS)
        return None if self._study.is_read else PlainTextResponse(f"{self._problem}\n", 503, HEADERS)

    async def data(self, request: Request) -> Response:
        from starlette.responses import Response

        if refusal := await self._refusal():
            return refusal
        content = await self._in_thread(self._study.data)
        return Response(content, media_type="application/json", headers=HEADERS)

    async def events(self, request: Request) -> Response:
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._events(), media_type="text/event-stream", headers=HEADERS)

    async def follow(self) -> None:
        """Look at the study while anybody watches, and now and then whether it is there."""
        idle_s = 0.0
        while True:
            if self._watching:
                await self._look()
            elif idle_s >= FIND_S:
                idle_s = 0.0
                with contextlib.suppress(Exception):  # a database that is away for a while says nothing of the study
                    await self._in_thread(self._study.find)
                self._say_if_gone()
            await asyncio.sleep(LOOK_S)
            idle_s += LOOK_S

    def _say_if_gone(self) -> None:
        """Once, each time that it goes."""
        if self._study.gone != self._noted:
            self._noted = self._study.gone
            if self._noted is not None:
                self._note(self._noted)

    async def _look(self) -> None:
        try:
            await self._in_thread(self._study.look)
            self._problem = None
        except VitsearchError as error:
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001  the border of the server: a database may be away for a while
            self._problem = f"{type(error).__name__}: {error}"
        self._say_if_gone()

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
