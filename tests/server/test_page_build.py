"""The page's built files are what its sources give, its types hold, and every pane together stays small."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "trajstore" / "server"
PAGE = SERVER / "page"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="needs node and npm to rebuild the page",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with their packages at the locked versions."""
    copy = tmp_path_factory.mktemp("page")
    shutil.copytree(PAGE, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm ci did not get the page's packages: {done.stderr.strip()[-300:]}")
    return copy


def test_the_built_files_are_what_the_sources_give(sources: Path) -> None:
    out = sources / "out"
    subprocess.run(["node", "build.mjs", str(out)], cwd=sources, check=True, capture_output=True)
    committed = {path.name: path.read_bytes() for path in (SERVER / "static").iterdir()}
    rebuilt = {path.name: path.read_bytes() for path in out.iterdir()}
    assert rebuilt.keys() == committed.keys()
    different = [name for name in rebuilt if rebuilt[name] != committed[name]]
    assert not different, f"{', '.join(different)}: run make page and commit what it builds"


def test_the_types_hold(sources: Path) -> None:
    done = subprocess.run(
        ["node_modules/.bin/tsc", "--noEmit"], cwd=sources, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
