"""dataset add, list, show, drop: fixed contexts to score models on."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.arguments import defaults
from trajstore.arguments.choices import Prompting
from trajstore.cli import options
from trajstore.cli.name_lists import complete_datasets
from trajstore.cli.output import bars, open_store, print_facts, print_json, print_rows, print_table, say
from trajstore.display import count
from trajstore.errors import listed


def add(
    name: Annotated[str, typer.Argument(help="The dataset's name in the store.")],
    source: Annotated[
        str,
        typer.Argument(
            help=".txt, .jsonl or .parquet file, folder of text files, Hugging Face dataset, dm-mathematics with "
            "its PATH, or generated-mathematics."
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="Repository or folder of the tokenizer; none for a file of input_ids of a model without one."
        ),
    ],
    path: Annotated[
        str | None,
        typer.Argument(help="dm-mathematics: a published file, or a folder of them.", show_default=False),
    ] = None,
    contexts: Annotated[
        int | None, typer.Option(min=1, help=f"Contexts to draw [default: {defaults.CONTEXTS}].")
    ] = None,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a context, at most.")] = defaults.LENGTH,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawing.")] = 0,
    column: Annotated[str, typer.Option(help="Column that holds the text.")] = defaults.TEXT_COLUMN,
    split: Annotated[
        str | None, typer.Option(help="Split of a Hugging Face dataset [default: train].")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a Hugging Face dataset.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Stream a Hugging Face dataset instead of downloading it.")
    ] = False,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json",
            help='With --tokenizer none: {"text": id, …}, or the list of texts by id [default: ids by number].',
        ),
    ] = None,
    prompting: Annotated[
        Prompting | None,
        options.choice(
            metavar="zero|few", help="Of problems: one a context, or those of a category one after another."
        ),
    ] = None,
    problems: Annotated[
        int | None, typer.Option(min=1, help="Problems of each category [default: 10; of a .jsonl file all].")
    ] = None,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Draw contexts from a source, and keep their tokens.

    Their text and a hash over them are kept as well.

    A document is drawn, then a slice of at most --length tokens inside it; the same seed draws the same. Rows of a
    .jsonl or .parquet file that has the column input_ids are taken as they are.

    With --prompting a .jsonl file holds problems, with the fields category, question and answer. dm-mathematics PATH
    reads DeepMind's published text files, and generated-mathematics makes problems of the same 56 categories.
    The same --seed and --problems give the same items under both promptings.

    \b
    Example:
      trajstore dataset add pile-github timaeus/pile-github --tokenizer EleutherAI/pythia-70m
      trajstore dataset add notes notes.txt --tokenizer runs/tiny --contexts 100 --length 128
      trajstore dataset add quiz quiz.jsonl --prompting few --tokenizer runs/tiny
      trajstore dataset add sorted lists.jsonl --tokenizer none --vocabulary numbers.json
      trajstore dataset add dm dm-mathematics dm-v1.0/interpolate --prompting zero --tokenizer runs/tiny
    """
    from trajstore.schema import check_name

    with open_store(store) as opened:
        check_name("dataset", name)
        # Only now, since they take seconds: a store or a name that cannot be is told at once.
        from trajstore.datasets.build import build_dataset
        from trajstore.datasets.problem_sources import GENERATED, PUBLISHED, is_problem_source
        from trajstore.datasets.problems import problem_dataset

        if is_problem_source(source) or (prompting is not None and source.endswith(".jsonl")):
            of_texts = (contexts, column != defaults.TEXT_COLUMN, split, config, revision, stream, vocabulary)
            if prompting is None or any(of_texts):
                raise typer.BadParameter(
                    f"problems ({source}) take --prompting zero or few, --problems, --length and --seed, and no others"
                )
            if source == PUBLISHED and path is None:
                say(
                    f"{PUBLISHED} without a PATH is {GENERATED}: problems of trajstore's own making, "
                    "not the published ones."
                )
            new = problem_dataset(
                source,
                tokenizer,
                prompting,
                path=path,
                problems=problems,
                length=length,
                seed=seed,
                progress=bars(),
            )
        elif prompting or problems or path is not None:
            raise typer.BadParameter(
                f"--prompting and --problems are for problems: a .jsonl file of them, {PUBLISHED} PATH or {GENERATED}; "
                f"a PATH goes with {PUBLISHED}"
            )
        else:
            new = build_dataset(
                source,
                tokenizer,
                contexts=contexts or defaults.CONTEXTS,
                length=length,
                seed=seed,
                column=column,
                split=split,
                config=config,
                revision=revision,
                stream=stream,
                vocabulary=vocabulary,
                progress=bars(),
            )
        existed = name in opened.dataset_names()
        made = opened.add_dataset(name, new)
    verb = "was there already, with the same tokens" if existed else "added"
    say(
        f"Dataset {name} {verb}: {count(made.n_contexts, 'context')}, {count(made.n_tokens, 'token')}, "
        f"{count(made.n_losses, 'loss', 'losses')} a step."
    )


def list_(store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """List the datasets.

    \b
    Example:
      trajstore dataset list --json
    """
    with open_store(store) as opened:
        made = [opened.dataset(name) for name in opened.dataset_names()]
    rows = [
        {
            "dataset": dataset.name,
            "contexts": dataset.n_contexts,
            "tokens": dataset.n_tokens,
            "losses": dataset.n_losses,
            "tokenizer": dataset.tokenizer.name,
            "source": dataset.source.get("source"),
        }
        for dataset in made
    ]
    print_rows(rows, as_json, ["dataset", "contexts", "tokens", "losses", "tokenizer", "source"])


def show(
    name: Annotated[str, typer.Argument(autocompletion=complete_datasets, help="The dataset's name.")],
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show how a dataset was drawn, and how it begins.

    Prints its hash, and the beginning of its first contexts.

    \b
    Example:
      trajstore dataset show pile-github
    """
    from trajstore.text import join_pieces

    with open_store(store) as opened:
        made = opened.dataset(name)
        frame = made.frame()
    facts: dict[str, object] = {
        "dataset": name,
        "contexts": made.n_contexts,
        "tokens": made.n_tokens,
        "losses": made.n_losses,
        "tokens_sha256": made.tokens_sha256,
        "tokenizer": made.tokenizer.name,
        "vocabulary_sha256": made.tokenizer.vocabulary_sha256,
        **made.source,
    }
    starts = {
        context: join_pieces(frame.filter(context=context).head(24)["text"].to_list())
        for context in range(min(3, made.n_contexts))
    }
    if as_json:
        print_json({**facts, "first_contexts": list(starts.values())})
        return
    print_facts(facts)
    print_table(["context", "begins"], [[context, text] for context, text in starts.items()])


def drop(
    name: Annotated[str, typer.Argument(autocompletion=complete_datasets, help="The dataset's name.")],
    losses: Annotated[bool, typer.Option("--losses", help="Remove all losses on it as well.")] = False,
    yes: options.Yes = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Remove a dataset for good, after asking.

    Refused while there are losses on it.

    \b
    Example:
      trajstore dataset drop notes
    """
    with open_store(store) as opened:
        slices = opened.slices_on(name)
        of = listed(dict.fromkeys(model for model, _, _ in slices))
        also = f" and {count(len(slices), 'slice')} of {of}" if slices else ""
        if not yes and (losses or not slices):
            typer.confirm(f"Remove the dataset {name}{also}?", abort=True, err=True)
        opened.drop_dataset(name, losses=losses)
    say(f"Removed the dataset {name}{also}.")


COMMANDS = (add, list_, show, drop)
