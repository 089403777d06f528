"""A command, run in the test's own process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from trajstore.cli import app


def run(*words: object, stdin: str | None = None) -> Result:
    """Run `trajstore` with these words; it may fail, but not by an error of Python's."""
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
