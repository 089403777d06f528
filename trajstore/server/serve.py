"""Running the server until it is stopped."""

from __future__ import annotations

import os
import secrets
import socket
import webbrowser
from collections.abc import Callable
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette

from trajstore.arguments.spelling import option
from trajstore.errors import TrajstoreError
from trajstore.server.app import create_app
from trajstore.server.security import is_loopback

_PATIENCE = 2
"""Seconds that replies under way have once the server is stopped."""


def serve(
    store: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    edit: bool = False,
    browser: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a store's page on `host` and `port`, 0 for any that is free, until Ctrl-C.

    Every request must bring `token` if given; on a host that other machines reach one is made where it is not. `say`
    is told the page's address, which is opened with `browser`. Raises as `Store`, and `TrajstoreError` where the port
    cannot be had.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    app = create_app(store, edit=edit, token=token, host=host)
    with listening(host, port) as listener:
        address = address_of(host, listener.getsockname()[1], token)
        say(f"The page is at {address} (Ctrl-C ends it)")
        if not is_loopback(host):
            say(
                "Other machines can reach it: whoever has the token in this address reads the store, and what is sent "
                "is not encrypted. Through a tunnel (ssh -L) it would be."
            )
        if browser:
            webbrowser.open(address)
        try:
            server_of(app).run(sockets=[listener])
        except KeyboardInterrupt:
            say("Stopped.")


def server_of(app: Starlette) -> uvicorn.Server:
    """The server that runs an application, quietly."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_PATIENCE,
        server_header=False,
    )
    return _Server(config, app)


class _Server(uvicorn.Server):
    """A server that, once it is stopped, ends streams and work, and waits for replies only then."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, as `uvicorn.Server` does."""
        self._app.state.watch.close()
        self._app.state.service.sessions.end()
        await super().shutdown(sockets)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises `TrajstoreError` where the port cannot be had."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise TrajstoreError(f"There is no address {host}: {error.strerror}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise TrajstoreError(
            f"Port {port} of {host} cannot be had: {error.strerror}. Take another with {option('port', 'PORT')}, or "
            f"any that is free with {option('port', 0)}."
        ) from error
    return listener


def address_of(host: str, port: int, token: str | None) -> str:
    """The page's address, as a browser takes it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - every address of this machine
        host = socket.gethostname()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")
