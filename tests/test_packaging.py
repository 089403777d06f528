"""The wheel: holds every SQL file, and works in an environment where the sources are not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import trajstore

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_sql_file_and_asset(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    beside = {
        path.relative_to(ROOT) for name in ("sql", "migrations") for path in (ROOT / name).rglob("*.sql")
    }
    assert len(beside) > 20
    assert {f"trajstore/{path}" for path in beside} <= inside
    sources = ROOT / "trajstore" / "server" / "page"
    package = {
        path.relative_to(ROOT)
        for path in (ROOT / "trajstore").rglob("*")
        if path.is_file() and not path.is_relative_to(sources)
    }
    wanted = {
        str(path) for path in package if not any(p.startswith((".", "__pycache__")) for p in path.parts)
    }
    assert wanted <= inside
    assert not any(name.startswith(("tests/", "benchmarks/", "trajstore/server/page/")) for name in inside)
    assert "trajstore/server/static/page.js" in inside


def test_the_wheel_makes_a_store(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import trajstore.sqlfiles as s; assert 'site' in s.__file__\n"
        "from trajstore.cli import main\n"
        "sys.argv = ['trajstore', 'init', '-s', 'made']\nmain()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "made" / "catalog.duckdb").is_file()


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == trajstore.__version__
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
