"""pca: principal components of losses, kept as a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments import defaults
from trajstore.arguments.choices import Center, ComponentsKind, Lacking, Precision
from trajstore.cli import options
from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.option_blocks import FindingOptions, OutputOptions, default_name, keep
from trajstore.cli.output import bars, print_json, print_table, print_tokens, say
from trajstore.display import count

if TYPE_CHECKING:
    import polars as pl

    from trajstore.pipelines.components.pca import PrincipalComponents


@dataclass(frozen=True)
class _ComponentsOutput(OutputOptions):
    x: options.Along = "step"


@dataclass_options(name=default_name("the method, the dataset or how many, the group"))
def pca(
    ctx: typer.Context,
    *,
    dataset: options.AnyDatasets = None,
    model: options.Models = None,
    group: options.Group = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="all, last, log, numbers, inclusive ranges A:B; commas join [default: all]."
        ),
    ] = None,
    contexts: options.Contexts = None,
    align: options.Align = "predict",
    method: Annotated[
        ComponentsKind,
        options.choice(
            metavar="full|sparse|hybrid",
            help="Components of all tokens, of few tokens each, or full ones and then sparse ones of what those leave.",
        ),
    ] = "full",
    components: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Components to keep, hybrid as many of either kind [default: {defaults.COMPONENTS}]."
        ),
    ] = None,
    center: Annotated[
        Center,
        options.choice(
            metavar="all|model", help="Take the mean over all rows, or each model's from its own."
        ),
    ] = "all",
    scale: Annotated[
        bool, typer.Option("--scale", help="Divide each centred column by its standard deviation.")
    ] = False,
    precision: Annotated[
        Precision,
        options.choice(
            metavar="double|single",
            help="Of dot products within blocks of tokens, which are added up in double: single takes about half the "
            "time, and is off by 1e-8 of the largest.",
        ),
    ] = "double",
    missing: Annotated[
        Lacking,
        options.choice(
            metavar="error|drop-columns|mean",
            help="What is done where a slice is missing: stop, leave those tokens out, or take their mean for it.",
        ),
    ] = "error",
    alpha: Annotated[
        float, typer.Option(help="Sparse: the price of a loading (nats); higher gives more zeros.")
    ] = defaults.SPARSE_ALPHA,
    ridge_alpha: Annotated[float, typer.Option(help="Sparse: ridge of the scores.")] = defaults.RIDGE_ALPHA,
    max_iter: Annotated[int, typer.Option(help="Sparse: most iterations of a descent.")] = defaults.MAX_ITER,
    tol: Annotated[
        float, typer.Option(help="Sparse: a descent ends once the objective falls by less than this share.")
    ] = defaults.TOL,
    restarts: Annotated[
        int, typer.Option(help="Sparse: descents, of which the lowest is kept.")
    ] = defaults.RESTARTS,
    seed: Annotated[
        int, typer.Option(min=0, help="Sparse: seed of the descents' starts.")
    ] = defaults.SPARSE_SEED,
    finding: FindingOptions,
    update: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Bring this finding up to date with what its options take in by now. -d and -m add to its own, "
            "--steps, --contexts and --components take their place.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Tokens to show at each end of a component.")] = 5,
    output: Annotated[_ComponentsOutput, Only("plot x store as_json")],
) -> None:
    """Find the principal components of all checkpoints' losses.

    They are of all checkpoints together, and exact whatever the number of tokens.

    Rows are the checkpoints of all models, columns the tokens, centred and not scaled. Prints each component's share of
    the variance, each checkpoint's scores, and the tokens that load highest and lowest. All of it is kept as a finding:
    pca_components, pca_scores and pca_loadings in SQL. --update reads the losses of new contexts and datasets alone for
    their dot products, and all losses once more for the loadings.

    \b
    Example:
      trajstore pca -d code -d docs --components 3 --name first --plot components.html
      trajstore pca --update first -d arithmetic
    """
    from trajstore.analysis.components.gram import Treatment
    from trajstore.analysis.components.methods import Method, Sparsity
    from trajstore.analysis.components.pca import COMPONENTS
    from trajstore.pipelines.components.pca import KIND, request
    from trajstore.pipelines.components.pca import pca as compute
    from trajstore.pipelines.components.update import Changes
    from trajstore.pipelines.components.update import update as bring_up_to_date
    from trajstore.pipelines.finding_facts import Place
    from trajstore.pipelines.training_progress import require_known
    from trajstore.store.matrix.selection import Selection, datasets_of

    if update is not None:
        _refuse_with_update(ctx)
    if output.plot is None and output.x != "step":
        raise typer.BadParameter("--x is of the plot, and no --plot is given")
    with output.open() as store:
        chosen = Selection(dataset, model)
        datasets = chosen.datasets or (() if update is not None else datasets_of(store, chosen))
        before = Selection(**store.finding(KIND, update).facts["asked"]) if update is not None else None
        require_known(store, output.x, datasets, model, steps, before)
        if update is not None:
            changes = Changes(datasets, model, steps, contexts, components)
            place = Place(update, replace=True)
            result = bring_up_to_date(store, update, changes, bars())
        else:
            selection = Selection(datasets, model, steps or "all", contexts, align, group)
            treatment = Treatment(center, scale, missing, precision)
            sparsity = Sparsity(alpha, ridge_alpha, max_iter, tol, restarts, seed)
            how = Method(method, components or COMPONENTS, treatment, sparsity)
            place = finding.place(request(selection, how), store)
            result = compute(store, selection, how, bars())
        result = result.along(output.x)
        keep(result, place)
        tokens = result.top_tokens(top)
    if output.as_json:
        _print_json(place.name, result, tokens)
    elif output.plot is None:
        _print_components(result, tokens)
    _say_what_was_made(result)
    output.finish(result, place, "pca_loadings")


_OF_THE_FINDING = ("group", "align", "method", "center", "scale", "precision", "missing", "name")
_OF_SPARSE = ("alpha", "ridge_alpha", "max_iter", "tol", "restarts", "seed")


def _refuse_with_update(ctx: typer.Context) -> None:
    """Raise where an option has another value than its default that an update takes from its finding, or has not."""
    for option in ctx.command.params:
        if option.name is None or ctx.params[option.name] == option.get_default(ctx):
            continue
        if option.name in _OF_THE_FINDING:
            raise typer.BadParameter(
                f"{option.opts[0]} is that of the finding, and cannot be given with --update"
            )
        if option.name in _OF_SPARSE:
            raise typer.BadParameter(f"{option.opts[0]} is of sparse components, which have no --update")


def _print_json(name: str, result: PrincipalComponents, tokens: pl.DataFrame) -> None:
    """The finding as JSON."""
    import polars as pl

    variance = result.result.variance.with_columns(zeros=pl.Series(result.result.zeros))
    frames = {"variance": variance, "scores": result.result.scores, "tokens": tokens}
    print_json({"finding": name, **{key: frame.to_dicts() for key, frame in frames.items()}})


def _print_components(result: PrincipalComponents, tokens: pl.DataFrame) -> None:
    """The three tables of a PCA."""
    import polars as pl

    variance, zeros = result.result.variance, result.result.zeros
    print_table(
        ["component", "variance (nats²)", "ratio", "zeros"],
        [
            [c, v, f"{100 * r:.2f} %", f"{100 * zero:.2f} %"]
            for (c, v, r), zero in zip(
                variance.select("component", "variance", "ratio").iter_rows(), zeros, strict=True
            )
        ],
    )
    typer.echo()
    wide = result.result.scores.pivot(on="component", index=["model", "step"], values="score")
    print_table(["model", "step", *(f"PC{name}" for name in wide.columns[2:])], wide.rows())
    typer.echo()
    end = pl.col("end").replace({"high": "+", "low": "−"})
    columns = ("loading", "dataset", "context", "position")
    print_tokens(tokens, pl.col("component").alias("PC"), end, *columns)


def _say_what_was_made(result: PrincipalComponents) -> None:
    """Say which tokens and checkpoints the numbers are of."""
    facts = result.facts
    say(f"{count(facts['rows'], 'checkpoint')} × {count(facts['columns'], 'token')}; {facts['explained']}.")
    number = facts["components"] * (2 if facts["method"] == "hybrid" else 1)
    if (made := result.result.variance.height) < number:
        say(f"There are no more than {made} components of these checkpoints ({number} were asked for).")
    if facts["method"] != "full":
        end = "" if facts["converged"] else f", where --max-iter {facts['max_iter']} ended it"
        say(f"Objective {facts['objective']:.7g} nats² after {facts['iterations']} iterations{end}.")
        sparse = facts["zeros"][-facts["components"] :]
        say(
            f"Zeros: {100 * sum(sparse) / len(sparse):.2f} % of the sparse loadings, at --alpha {facts['alpha']:g}."
        )
        if empty := sum(share == 1 for share in sparse):
            say(_too_sparse(empty, len(sparse), facts["alpha"], facts["alpha_limit"]))
    if facts["columns_left_out"]:
        say(f"Left out: {facts['columns_left_out']:,} of the tokens (--missing {facts['missing']}).")
    elif facts["missing"] != "error":
        say(f"No token was left out (--missing {facts['missing']}).")


def _too_sparse(empty: int, components: int, alpha: float, limit: float) -> str:
    """A warning that sparse components have no loading, with an α of which some have."""
    if empty < components:
        return f"Warning: {empty} of {components} sparse components have no loading at --alpha {alpha:g}."
    # Half of the limit, to two digits.
    half = f"{limit / 2:.2g}"
    return (
        f"Warning: all sparse loadings are 0. They are from --alpha {limit:.4g} on, the length in nats of the longest "
        f"column that they are of; below it some are not: --alpha {half}"
    )
