"""serve: the page over a store, in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.cli import options
from trajstore.cli.output import say


def serve(
    store: options.Store = options.DEFAULT_STORE,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen on; only this machine reaches the default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            help="Word that every visitor must bring; made and printed on a host that others reach.",
            show_default=False,
        ),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Let groups be saved from the page.")] = False,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page over the store.

    It shows coverage, tokens, groups, components and findings, and answers SQL.

    Reads only, unless --edit. Nothing of it needs a network. Ctrl-C ends it.

    \b
    Example:
      trajstore serve -s demo/store --open
    """
    from trajstore.server.serve import serve as serve_store

    serve_store(
        store,
        host=host,
        port=port,
        token=token,
        edit=edit,
        browser=browser,
        say=lambda line: say(line, needed=True),
    )
