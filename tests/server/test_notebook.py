"""The page beside a notebook: served by a thread, shown as a link, closed by hand or with Python."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from trajstore.errors import TrajstoreError
from trajstore.store.store import Store


def test_the_page_beside_a_notebook_is_a_link_until_it_is_closed(served_path: Path) -> None:
    with Store(served_path) as store:
        page = store.page()
        assert store.page() is page, "a cell that runs again opens no second server"
        assert f'<a href="{page.url}"' in page._repr_html_()
        with urllib.request.urlopen(f"{page.url}api/coverage.csv", timeout=60) as answer:
            assert answer.read().startswith(b"model,dataset,step,state")
        port = int(page.url.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(TrajstoreError, match=f"Port {port} "):
            store.page(port)
        page.close()
        assert "closed" in page._repr_html_()
        page.close()
        again = store.page()
        assert again is not page
        again.close()


def test_the_page_ends_with_python(served_path: Path) -> None:
    code = (
        "import sys, urllib.request, trajstore; page = trajstore.open(sys.argv[1]).page(); "
        "print(len(urllib.request.urlopen(page.url + 'api/coverage.csv').read()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(served_path)], capture_output=True, text=True, timeout=60
    )
    assert int(done.stdout) > 25
    assert (done.returncode, done.stderr) == (0, "")
