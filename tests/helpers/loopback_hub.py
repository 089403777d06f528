"""A Hub on this machine: what the Hub's client asks of huggingface.co, over files in memory, with faults to plant.

It lists refs, resolves revisions to commits, lists a commit's files and serves them: small ones directly under git's
hash, weights through a redirect to a content server that knows ranges and names them by their sha256. The fixture
`loopback` (conftest) starts one and points the client of this process at it and at an empty cache.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from transformers import PreTrainedModel

STORED_APART = (".safetensors", ".bin", ".msgpack")
"""Suffixes of the files that the Hub keeps apart from git, by their sha256."""


class Download(NamedTuple):
    """A request for a file's bytes."""

    repo: str
    commit: str
    name: str
    start: int
    """First byte asked for: above 0 where the client goes on with a part that it has."""


@dataclass
class Repo:
    """A repository: branches and tags → commits, commits → files."""

    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)


@dataclass
class Fault:
    """An answer or failure planned for the next requests of a kind."""

    path: re.Pattern[str]
    times: int
    status: int | None
    code: str | None
    keep: float | None
    delay: float
    headers: dict[str, str]


class LoopbackHub(ThreadingHTTPServer):
    """Repositories on a port of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.downloads: list[Download] = []
        """Requests for a file's bytes, in order, those that a fault met too."""
        self.requests: list[str] = []
        """Method and path of every request."""
        self.waits: list[float] = []
        """Seconds that the client would have waited between its tries; it waits none."""
        self._turn = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Return the value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def content_server(self) -> str:
        """The same server by another name, as weights come from another host than the Hub's."""
        return f"http://localhost:{self.server_port}"

    def add(
        self,
        repo: str,
        revision: str,
        files: dict[str, bytes],
        *,
        tag: bool = False,
        commit: str | None = None,
    ) -> str:
        """A revision with these files; gives its commit, by default a hash of the repository, name and files."""
        if commit is None:
            commit = hashlib.sha1(repr((repo, revision, sorted(files.items()))).encode()).hexdigest()
        there = self.repos.setdefault(repo, Repo())
        (there.tags if tag else there.branches)[revision] = commit
        there.commits[commit] = files
        return commit

    def add_model(
        self, repo: str, revision: str, model: PreTrainedModel, scratch: Path, **more: bytes
    ) -> str:
        """A revision with what `save_pretrained` writes of a model (by way of `scratch`); gives its commit."""
        model.save_pretrained(scratch)
        files = {path.name: path.read_bytes() for path in scratch.iterdir()}
        for path in scratch.iterdir():
            path.unlink()
        return self.add(repo, revision, files | more)

    def fail(
        self,
        path: str,
        *,
        times: int = 1,
        status: int | None = None,
        code: str | None = None,
        keep: float | None = None,
        delay: float = 0.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Plant a fault in the next `times` requests whose path holds `path` (a regular expression).

        `status` answers with that code and `headers`, `code` being the Hub's X-Error-Code. `keep` sends that share of
        the bytes and cuts the connection. `delay` waits that many seconds first, alone or with one of the others.
        A file's path is `/org/run/resolve/REVISION/NAME`; the bytes of one that is stored apart lie under
        `/stored/org/run/COMMIT/NAME`, the rest under `/api/models/org/run/`: `refs`, `revision/…`, `tree/…`.
        """
        with self._turn:
            self.faults.append(Fault(re.compile(path), times, status, code, keep, delay, headers or {}))

    def fault_of(self, path: str) -> Fault | None:
        """The fault that meets this request, used up by one."""
        with self._turn:
            for fault in self.faults:
                if fault.times > 0 and fault.path.search(path):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackHub

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client went away, as a killed job does
            super().handle()

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        self._body, self._keep = body, None
        if (fault := self.server.fault_of(path)) is not None:
            time.sleep(fault.delay)
            self._keep = fault.keep if body else None
            if fault.status is not None:
                self._refuse(fault.status, fault.code, fault.headers)
                return
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(refs|revision|tree)(?:/(.+))?)?", path):
            self._api(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        elif match := re.fullmatch(r"/stored/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self._bytes(*match.groups(), {})
        else:
            self._refuse(404, None)

    def _api(self, name: str, kind: str | None, revision: str | None) -> None:
        repo = self.server.repos.get(name)
        if repo is None:
            self._refuse(404, "RepoNotFound")
        elif kind == "refs":
            refs = {
                key: [{"name": n, "ref": f"refs/{part}/{n}", "targetCommit": c} for n, c in found.items()]
                for key, part, found in (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
            }
            self._send(json.dumps(refs | {"converts": []}).encode())
        elif (commit := _commit(repo, revision or "main")) is None:
            # no folders here: one within a revision is an entry that is not there
            within = kind == "tree" and _commit(repo, (revision or "").partition("/")[0]) is not None
            self._refuse(404, "EntryNotFound" if within else "RevisionNotFound")
        elif kind == "tree":
            tree = [_entry(path, data) for path, data in repo.commits[commit].items()]
            self._send(json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": path} for path in repo.commits[commit]]
            self._send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.server.repos.get(name)
        if repo is None:
            self._refuse(404, "RepoNotFound")
        elif (commit := _commit(repo, revision)) is None:
            self._refuse(404, "RevisionNotFound")
        elif (data := repo.commits[commit].get(path)) is None:
            self._refuse(404, "EntryNotFound")
        elif path.endswith(STORED_APART):
            headers = {
                "Location": f"{self.server.content_server}/stored/{name}/{commit}/{path}",
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
                "X-Repo-Commit": commit,
            }
            self._send(b"", headers, status=302)
        else:
            self._bytes(name, commit, path, {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": commit})

    def _bytes(self, name: str, commit: str, path: str, headers: dict[str, str]) -> None:
        data = self.server.repos[name].commits[commit][path]
        asked = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if self._body:
            self.server.downloads.append(Download(name, commit, path, start))
        if asked:
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._send(data[start:], headers, status=206 if asked else 200)

    def _refuse(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
        self._send(b"", (headers or {}) | ({"X-Error-Code": code} if code else {}), status)

    def _send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self._body:
            self.wfile.write(data if self._keep is None else data[: int(len(data) * self._keep)])


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[LoopbackHub]:
    """An empty Hub that answers, with this process's client pointed at it and at the cache folder."""
    from huggingface_hub import constants

    hub = LoopbackHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
    thread.start()
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for waiting in ("huggingface_hub.file_download", "huggingface_hub.utils._http"):
        monkeypatch.setattr(f"{waiting}.time", SimpleNamespace(sleep=hub.waits.append))
    monkeypatch.setattr(
        "trajstore.checkpoints.retry.pause", lambda seconds, stopped: hub.waits.append(seconds)
    )
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def git_hash(data: bytes) -> str:
    """The name that git gives a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _commit(repo: Repo, revision: str) -> str | None:
    found = {**repo.tags, **repo.branches}.get(revision, revision)
    return found if found in repo.commits else None


def _entry(path: str, data: bytes) -> dict[str, object]:
    """A file in the listing of a commit."""
    entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
    if path.endswith(STORED_APART):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry
