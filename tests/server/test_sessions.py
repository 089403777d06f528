"""Work is ended when its client goes away, or when it takes more than it may; the command serves until Ctrl-C."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.server.conftest import ADDRESS
from trajstore.server.app import create_app
from trajstore.server.endpoints import Ask, Service, frames
from trajstore.server.sessions import Limits, WorkStopped

ENDLESS = (
    "SELECT count(*) FROM range(100_000_000_000) AS a, range(1000) AS b WHERE (a.range * b.range) % 7 = 3"
)


class Pane:
    """Endpoints that would go on for hours, in SQL and in Python, and remember how they ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    def routes(self) -> list[Any]:
        return [frames("sql-forever", self.sql), frames("python-forever", self.python)]

    def sql(self, ask: Ask) -> pl.DataFrame:
        self.begun.set()
        try:
            return ask.store.sql(ENDLESS).pl()
        finally:
            self.ended.set()

    def python(self, ask: Ask) -> pl.DataFrame:
        self.begun.set()
        try:
            while True:
                ask.progress.advance()
                time.sleep(0.01)
        except WorkStopped:
            self.ended.set()
            raise


@pytest.mark.parametrize("name", ["sql-forever", "python-forever"])
def test_work_ends_when_its_client_goes_away(served_path: Path, name: str) -> None:
    pane = Pane()
    app = create_app(served_path, panes=[pane.routes])
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/api/{name}.json",
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"localhost")],
        "root_path": "",
        "http_version": "1.1",
    }

    async def receive() -> dict[str, Any]:
        await asyncio.to_thread(pane.begun.wait, 60)
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        return None

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))  # type: ignore[arg-type]
    assert pane.ended.is_set()
    service: Service = app.state.service
    service.cache.close()
    service.sessions.close()


@pytest.mark.parametrize("name", ["sql-forever", "python-forever"])
def test_work_ends_when_its_time_is_over(served_path: Path, name: str) -> None:
    pane = Pane()
    app = create_app(served_path, limits=Limits(seconds=0.2), panes=[pane.routes])
    with TestClient(app, base_url=ADDRESS) as client:
        answer = client.get(f"/api/{name}.json")
    assert answer.status_code == 408
    assert "0.2 s" in answer.json()["error"]
    assert pane.ended.is_set()


def test_more_requests_than_may_wait_are_refused(served_path: Path) -> None:
    with TestClient(create_app(served_path, limits=Limits(waiting=0)), base_url=ADDRESS) as client:
        assert client.get("/api/store").status_code == 429


def test_the_command_serves_until_it_is_stopped(served_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trajstore",
        "serve",
        "-s",
        str(served_path),
        "--port",
        "0",
        "--token",
        "t",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=t", line)
        assert match, line

        def asked(name: str) -> Any:
            address = f"http://127.0.0.1:{match[1]}/api/{name}"
            request = urllib.request.Request(address, headers={"Authorization": "Bearer t"})
            return urllib.request.urlopen(request, timeout=60)

        with asked("coverage.csv") as answer:
            assert answer.read().startswith(b"model,dataset,step,state")
        with asked("events") as stream:  # as a page that is open has one
            assert stream.readline() == b": still here\n"
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        said = server.stderr.read()
        assert "Traceback" not in said
        assert "ERROR" not in said
