"""The guard before every endpoint: who may ask, and what a browser may do with the answer.

A page of another site must reach nothing here. A browser that was made to take its name for this server's (DNS
rebinding) is told by the Host header, a form or script of another site by Origin and Sec-Fetch-Site, and on a network
all of them by the token. Requests without a browser's headers, as curl sends, are let through where the token is.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trajstore.server.replies import refusal

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""

COOKIE = "trajstore"
"""The beginning of a cookie's name; its port follows, since a browser sends a machine's cookies to all its ports."""
_JSON = "application/json"
_MONTH = 30 * 24 * 3600


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host that a server listens on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Answers what must not come in, and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", token: str | None = None) -> None:
        """Guard a server that listens on `host`, and wants `token` of every request where there is one."""
        self._app = app
        self._host = host
        self._token = token
        self._names = _own_names(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSockets here

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        headers = Headers(scope=scope)
        answer = self._refused(scope, headers) or self._without_token(scope, headers)
        await (answer or self._app)(scope, receive, guarded)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that another site may have made; None to others."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return refusal(
                403,
                "This name is not the server's.",
                "Open the address that `trajstore serve` printed; --host NAME makes another name its own.",
            )
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return refusal(405, f"{scope['method']} is not answered.", "Ask with GET.")
        origins = headers.getlist("origin")
        if any(not _same_origin(origin, scope, hosts[0]) for origin in origins):
            return refusal(403, "Another site asked.", "Open the page itself.")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not _follows_link(scope, headers):
            return refusal(403, "Another site asked.", "Open the page itself.")
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip() != _JSON:
            return refusal(415, "This is no JSON.", f"Send it as {_JSON}.")
        return None

    def _is_ours(self, host: str) -> bool:
        """Return whether a Host header names this server; the port may be another's, as behind a tunnel."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._host)  # no name was looked up for an address

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that lacks the token, or brings it in its address; None to others."""
        if self._token is None:
            return None
        parameters = QueryParams(scope["query_string"])
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        name = f"{COOKIE}-{_port(headers['host'])}"
        cookie = cookie_parser(headers.get("cookie", "")).get(name, "")
        if self._fits(cookie) or (scheme.lower() == "bearer" and self._fits(bearer)):
            given = False
        elif scope["method"] == "GET" and self._fits(parameters.get("token", "")):
            given = True
        else:
            return refusal(
                401, "The token is missing, or another.", "Open the address that `trajstore serve` printed."
            )
        if not given and not ("token" in parameters and scope["path"] == "/"):
            return None
        # On to the same address without it, so that it is in no link that is sent to others.
        rest = urlencode([(key, value) for key, value in parameters.multi_items() if key != "token"])
        answer = RedirectResponse(_own_path(scope["path"]) + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(name, self._token, max_age=_MONTH, httponly=True, samesite="lax")
        return answer

    def _fits(self, token: str) -> bool:
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())


def _own_names(host: str) -> frozenset[str]:
    """Names under which a server that listens on `host` is meant."""
    names: Iterable[str] = ("localhost",)
    if not is_loopback(host):
        names = ("localhost", socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in (*names, host))


def _port(host: str) -> int:
    """The port in a Host header that has been checked."""
    try:
        return urlsplit(f"//{host}").port or 80
    except ValueError:
        return 80


def _own_path(path: str) -> str:
    """A path on this server: never `//other.example/`, which is another's address."""
    return "/" + path.lstrip("/\\")


def _same_origin(origin: str, scope: Scope, host: str) -> bool:
    """Return whether a page of this server asks."""
    return origin.lower() == f"{scope.get('scheme', 'http')}://{host}".lower()


def _follows_link(scope: Scope, headers: Headers) -> bool:
    """Return whether somebody opens the page, which holds no data, from a link elsewhere."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
