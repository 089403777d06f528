"""The page of a report as it is written: one file with its data inside, or a folder with them beside it.

One file opens without any network: its content policy forbids every request, and lets no script run but the page's own,
by its hash. The data are compressed and written in base64, so no text in them can end the script. The page of a folder
may ask for what lies in that folder.
"""

from __future__ import annotations

import base64
import hashlib
import html
import shutil
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from trajstore.server.report.container import unpacked
from trajstore.store.disk import layout

STATIC = Path(__file__).parents[1] / "static"
"""The built page."""
_DATA = '<script type="application/gzip" id="data">'
"""Where the data begin."""


def document(title: str, data: bytes) -> bytes:
    """The page as one file: the built page, its style, and the data."""
    script, style = (_static(name) for name in ("report.js", "report.css"))
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    parts = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": html.escape(title),
        "icon": _base64((STATIC / "icon.svg").read_bytes()),
        "css": style,
        "script": script,
        "data": _base64(data),
    }
    return Template(_static("report.html")).substitute(parts).encode()


def fill_folder(
    folder: Path, title: str, data: bytes, store: Path, slices: Iterable[tuple[str, str, int]]
) -> None:
    """Write the page, its data, and the slices (model, dataset, step) of a store into a folder."""
    index = Template(_static("split.html")).substitute(title=html.escape(title))
    (folder / "index.html").write_text(index, encoding="utf-8")
    for name, built in (("page.js", "split.js"), ("page.css", "report.css"), ("icon.svg", "icon.svg")):
        shutil.copyfile(STATIC / built, folder / name)
    (folder / "data.bin").write_bytes(data)
    for slice_ in slices:
        path = layout.slice_path(store, *slice_)
        place = layout.slice_path(folder, *slice_)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(
            path, place
        )  # no link: a site's files get owners, modes and edits, which would reach the store


def read_data(page: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header of a written page's data, and the bytes of the parts that it points to."""
    text = page.read_text(encoding="utf-8")
    begin = text.index(_DATA) + len(_DATA)
    return unpacked(base64.b64decode(text[begin : text.index("<", begin)]))


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source of a script or style as a content policy names it."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
