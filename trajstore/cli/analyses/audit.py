"""audit: are the checkpoints what their steps say?"""

from __future__ import annotations

import typer

from trajstore.cli import options
from trajstore.cli.output import Exit, bars, open_store, print_json, print_rows, say
from trajstore.display import count
from trajstore.errors import listed


def audit(
    model: options.Models = None,
    dataset: options.AnyDatasets = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Find checkpoints that are not what their step says.

    It finds slices of mixed origin as well.

    Findings are: the same weights, or losses that are equal or nearly so, under two steps or two models; losses that
    are hardly nats, in another unit than their neighbours', or in another order of tokens; a checkpoint out of place,
    that holds the weights of the end, or is unlike its neighbours; a break, from which on another run seems to stand;
    one that is known to be bad; slices of one model and dataset made in different ways (dtype, vocabulary, attention
    kernel, device, versions); a slice that cannot be read. Each says what to do. Exit code 0 where nothing is found,
    1 where something is. A finding need not be an error: look at it.

    \b
    Example:
      trajstore audit -m 'pythia-*' --json
    """
    from trajstore.pipelines.audit import audit as look

    with open_store(store) as opened:
        findings = look(opened, model, dataset, bars())
    if as_json:
        print_json([vars(finding) for finding in findings])
    elif findings:
        print_rows(
            [
                {**vars(finding), "datasets": ", ".join(finding.datasets), "steps": listed(finding.steps)}
                for finding in findings
            ],
            as_json,
        )
    for sentence in findings.unseen:
        say(sentence)
    if findings:
        say(f"{count(len(findings), 'finding')}.")
        raise typer.Exit(Exit.FAILED)
    say("Nothing was found.")
