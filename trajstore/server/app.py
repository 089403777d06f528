"""The application: panes' endpoints over one store behind the guard, and the built page."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from trajstore.errors import BadOption
from trajstore.server import events
from trajstore.server.cache import SliceCache
from trajstore.server.endpoints import Service
from trajstore.server.panes import (
    compare,
    components,
    context_search,
    coverage,
    cube,
    findings,
    groups,
    sql,
    tokens,
)
from trajstore.server.replies import refusal
from trajstore.server.security import Guard
from trajstore.server.sessions import Limits, Sessions

STATIC = Path(__file__).parent / "static"
"""The built page."""
_TOKEN = re.compile("[!-~]+")
"""Texts that a header can carry."""

PANES: Sequence[Callable[[], Sequence[BaseRoute]]] = (
    coverage.routes,
    tokens.routes,
    context_search.routes,
    cube.routes,
    sql.routes,
    events.routes,
    groups.routes,
    compare.routes,
    components.routes,
    findings.routes,
)
"""The endpoints of each pane."""


def create_app(
    store: str | os.PathLike[str],
    *,
    edit: bool = False,
    token: str | None = None,
    host: str = "127.0.0.1",
    limits: Limits | None = None,
    panes: Sequence[Callable[[], Sequence[BaseRoute]]] = PANES,
) -> Starlette:
    """Return the application over a store, as a server that listens on `host` runs it.

    `edit` lets groups be saved; `token` is wanted of every request if given. Raises as `Store`, and `BadOption`.
    """
    if token is not None and not _TOKEN.fullmatch(token):  # an empty one is what every visitor brings
        raise BadOption("token", token, "one or more letters, digits and signs of ASCII without a space")
    sessions = Sessions(Path(store), limits)
    cache = SliceCache(sessions.store, sessions.limits.cache)
    watch = events.Watch(sessions.path)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        watch.close()
        cache.close()
        sessions.close()

    app = Starlette(
        routes=[
            Route("/", _index, methods=["GET"]),
            *([Mount("/static", StaticFiles(directory=STATIC))] if STATIC.is_dir() else []),
            *(route for routes in panes for route in routes()),
        ],
        middleware=[Middleware(Guard, host=host, token=token)],
        exception_handlers={HTTPException: _refused},
        lifespan=lifespan,
    )
    app.state.service = Service(sessions, cache, edit)
    app.state.watch = watch
    return app


async def _index(_: Request) -> Response:
    """The page."""
    page = STATIC / "index.html"
    if not page.is_file():
        return refusal(404, "The page is not built here.", "Build it: make page")
    return FileResponse(page)


async def _refused(_: Request, error: Exception) -> Response:
    """The reply to what is nowhere here, or wanted in a way that it is not given."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = "Nothing is at this address." if status == 404 else "This cannot be asked so."
    return refusal(status, what, "The page itself is at /.")
