"""finding list, kinds, show, drop, groups: stored results of analyses."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trajstore.cli import options
from trajstore.cli.output import bars, open_store, print_facts, print_json, print_rows, say

Kind = Annotated[str, typer.Argument(help="The analysis, such as pca.")]
Name = Annotated[str, typer.Argument(help="The finding's name.")]


def list_(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """List the findings and what each is of.

    Shows kind, name, when it was made, and of which models, datasets, groups and steps.

    \b
    Example:
      trajstore finding list
    """
    with open_store(store) as opened:
        findings = opened.findings()
    rows = [
        {"kind": finding.kind, "finding": finding.name, "made": finding.made, "of": str(finding.subject)}
        for finding in findings
    ]
    print_rows(rows, as_json, ["kind", "finding", "made", "of"])


def kinds(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """List the kinds of findings, and their views in SQL.

    They are trajstore's own, and those of the analyses of installed packages; an analysis of a package is a command of
    its name.

    \b
    Example:
      trajstore finding kinds
    """
    from trajstore.pipelines.definition import finding_kinds

    with open_store(store) as opened:
        listed, problems = finding_kinds(opened)
    for problem in problems:
        say(str(problem), needed=True)
    rows = [{"kind": kind.name, "views": ", ".join(kind.views), "package": kind.package} for kind in listed]
    print_rows(rows, as_json, ["kind", "views", "package"])


def show(
    kind: Kind, name: Name, store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False
) -> None:
    """Show what a finding was made of, and how.

    Its tables are views in SQL (trajstore schema).

    \b
    Example:
      trajstore finding show pca first
    """
    with open_store(store) as opened:
        finding = opened.finding(kind, name)
    facts = {"kind": finding.kind, "finding": finding.name, "made": finding.made, **finding.facts}
    if as_json:
        print_json(facts)
    else:
        print_facts({key: _shown(value) for key, value in facts.items()})


def _shown(value: object) -> object:
    """A value of a fact: lists and the like as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def drop(kind: Kind, name: Name, store: options.Store = options.DEFAULT_STORE) -> None:
    """Remove a finding for good; losses and groups are never touched.

    \b
    Example:
      trajstore finding drop pca first
    """
    with open_store(store) as opened:
        opened.drop_finding(kind, name)
    say(f"Dropped the {kind} finding {name}.")


def groups(
    name: Annotated[str, typer.Argument(help="The name of a pca finding.")],
    group: options.AnyGroups = None,
    component: Annotated[int | None, typer.Option(min=1, help="Of this component alone.")] = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show which groups load on the components of a PCA.

    share is a group's part of the squared loadings, expected what it would be if the component were spread evenly over
    all tokens, times the one over the other. A group that is defined by losses may take a while.

    \b
    Example:
      trajstore finding groups first --component 3
    """
    from trajstore.pipelines.components.groups import component_groups

    with open_store(store) as opened:
        shares = component_groups(opened, name, group, component, bars())
    print_rows(shares.to_dicts(), as_json, shares.columns)


COMMANDS = (list_, kinds, show, drop, groups)
