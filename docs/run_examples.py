"""Runs the examples of README.md and docs/ on the demo's store and writes their output into the pages.

    python docs/run_examples.py demo            # after `make demo`
    python docs/run_examples.py demo --check    # changes nothing; exit code 1 where an output is not what a page shows

An example is a fenced block of `text` whose first line begins with `$ `: the command runs with TRAJSTORE=DEMO/store,
and what it prints follows it. A block of `python` that is followed by a block of `text` is run as a script of its own,
and the second block is what it prints.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```text\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(
    r"^(```python\n(?P<code>.*?)^```\n+)```text\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL
)


def pages() -> list[Path]:
    """README.md and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@contextlib.contextmanager
def working_copy(demo: Path) -> Iterator[Path]:
    """A folder that holds `demo` with a store of its own, so that what a page keeps is there for that page alone."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "demo"
        own.mkdir()
        for path in demo.iterdir():
            if path.name == "store":
                shutil.copytree(path, own / "store")
            else:
                (own / path.name).symlink_to(path)
        yield Path(folder)


def run(command: list[str] | str, folder: Path) -> str:
    """Return what a command prints on stdout; raises `CalledProcessError`, its stderr shown, where it fails."""
    environment = {
        **os.environ,
        "TRAJSTORE": "demo/store",
        "COLUMNS": "120",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def updated(text: str, demo: Path) -> str:
    """The text of a page with its outputs as they come out now."""
    if not _BLOCK.search(text) and not _PYTHON.search(text):
        return text
    with working_copy(demo) as folder:

        def command(match: re.Match[str]) -> str:
            lines = re.findall(r"^\$ ((?:.*\\\n)*.*)$", match[1], re.MULTILINE)
            parts = [f"$ {line}\n{run(line, folder)}".rstrip() for line in lines]
            return "```text\n" + "\n".join(parts) + "\n```"

        def script(match: re.Match[str]) -> str:
            return f"{match[1]}```text\n{run([sys.executable, '-c', match['code']], folder)}\n```"

        return _PYTHON.sub(script, _BLOCK.sub(command, text))


def main() -> None:
    """Run the examples of all pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder that make demo made")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where an output is another one"
    )
    options = parser.parse_args()
    changed = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := updated(text, options.demo.resolve())) != text:
            changed.append(page.relative_to(ROOT))
            if not options.check:
                page.write_text(new, encoding="utf-8")
    for path in changed:
        print(f"{path}: {'another output' if options.check else 'written'}")
    if options.check and changed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
