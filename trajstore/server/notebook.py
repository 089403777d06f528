"""The page beside a notebook: served by a thread of the same Python, for as long as that runs."""

from __future__ import annotations

import atexit
import html
import threading
from pathlib import Path

from trajstore.server.app import create_app
from trajstore.server.serve import address_of, listening, server_of

_HOST = "127.0.0.1"
_open: dict[tuple[Path, int], Page] = {}
"""Open pages by store and wanted port, so that a cell that runs again starts no second server."""


class Page:
    """A page that is served until `close`, or until Python ends. A notebook shows it as a link."""

    def __init__(self, store: Path, port: int) -> None:
        self.store = store
        self._server = server_of(create_app(store, host=_HOST))
        listener = listening(_HOST, port)
        self.url = address_of(_HOST, listener.getsockname()[1], None)
        """The page's address on this machine."""
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="trajstore-page", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)

    @property
    def closed(self) -> bool:
        """True once it is served no longer."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the server; replies under way have two seconds. A closed page stays closed."""
        self._server.should_exit = True
        self._thread.join()
        atexit.unregister(self.close)

    def __repr__(self) -> str:
        return f"Page({self.url}{', closed' if self.closed else ''})"

    def _repr_html_(self) -> str:
        # A link: the server lets no page frame its own.
        name = html.escape(self.store.name)
        if self.closed:
            return f"<p>The page over {name} is closed.</p>"
        return (
            f'<p><a href="{self.url}" target="_blank" rel="noopener">The page over {name}: {self.url}</a></p>'
        )


def page(store: Path, port: int) -> Page:
    """The open page over a store at this port, or a new one; raises as `Store`, and `TrajstoreError` for a port."""
    key = store.resolve(), port
    if key not in _open or _open[key].closed:
        _open[key] = Page(store, port)
    return _open[key]
