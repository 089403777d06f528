"""Problems, each a question with its answer: read from a .jsonl file or DeepMind's published text files, or generated.

A .jsonl file holds an object a line, with the texts `category`, `question` and `answer`; other fields are not read.
DeepMind's files (Saxton, Grefenstette, Hill and Kohli 2019, github.com/google-deepmind/mathematics_dataset) hold a
module each, as in algebra__linear_1d.txt, with the question and its answer on alternate lines; the module's name is the
category. Generators are imported only where they are the source. Writes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trajstore.arguments import defaults
from trajstore.arguments.choices import Prompting
from trajstore.arguments.spelling import option
from trajstore.datasets.problem_sources import PUBLISHED, is_problem_source
from trajstore.datasets.prompts import Problem, prompt_dataset
from trajstore.datasets.sources import visible_files
from trajstore.errors import BadDataset, listed
from trajstore.progress import SILENT, bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.progress import Progress
    from trajstore.store.files.datasets import NewDataset, Source

FIELDS = ("category", "question", "answer")
PER_CATEGORY = 10
"""Problems of a category, where a source has more than anyone wants."""

_LINE_FEED = 10
_LISTED = 5
"""Bad lines that are named with their reasons."""


def problem_dataset(
    source: str,
    tokenizer: str,
    prompting: Prompting,
    *,
    path: str | Path | None = None,
    problems: int | None = None,
    length: int = defaults.LENGTH,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NewDataset:
    """A dataset of problems, zero-shot or few-shot; see `prompt_dataset`.

    `source` is a .jsonl file, "dm-mathematics" with the `path` of a published file or a folder of them, or
    "generated-mathematics". `problems` of each category are drawn with `seed`: by default all of a .jsonl file, else
    10. The same arguments give both promptings the same items. Raises `BadDataset` and `TokenizerNotFound`.
    """
    if (problems is not None and problems < 1) or seed < 0:
        raise BadDataset(
            f"{problems} problems with seed {seed}: {option('problems')} is 1 or more, {option('seed')} 0 or more."
        )
    if path is not None and source != PUBLISHED:
        raise BadDataset(f"{source} takes no path behind it; {PUBLISHED} does.")
    if is_problem_source(source) and path is None:
        from trajstore.datasets.generated_mathematics import mathematics_dataset

        number = problems or PER_CATEGORY
        return mathematics_dataset(
            tokenizer, prompting, problems=number, length=length, seed=seed, progress=progress
        )
    if path is None:
        facts: Source = {"source": source, "problems": problems, "seed": None if problems is None else seed}
        read = read_problems(Path(source).expanduser())
        chosen = read if problems is None else sample_problems(read, problems, seed, progress)
    else:
        number = problems or PER_CATEGORY
        facts = {"source": PUBLISHED, "path": str(path), "problems": number, "seed": seed}
        chosen = read_mathematics_files(Path(path).expanduser(), number, seed, progress)
    return prompt_dataset(chosen, tokenizer, prompting, length=length, source=facts, progress=progress)


def read_problems(path: Path) -> list[Problem]:
    """The problems of a .jsonl file in its order; lines with nothing in them are passed over.

    Raises `BadDataset` naming the lines that hold no problem.
    """
    if path.suffix != ".jsonl" or not path.is_file():
        raise BadDataset(
            f"{option('prompting')} takes problems, and {path} is no .jsonl file of them: a line for each, with the "
            f"fields {', '.join(FIELDS)}."
        )
    problems, bad = [], []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    problems.append(_problem(line))
                except ValueError as error:
                    bad.append(f"line {number} {error}")
    except OSError as error:
        raise BadDataset(f"{path} cannot be read: {error.strerror}.") from error
    if bad:
        more = f"; {len(bad) - _LISTED} more lines are bad" if len(bad) > _LISTED else ""
        raise BadDataset(f"{path}: {'; '.join(bad[:_LISTED])}{more}. Nothing was written.")
    if not problems:
        raise BadDataset(f"{path} has no problems in it.")
    return problems


def _problem(line: bytes) -> Problem:
    """The problem on a line of JSON; raises `ValueError` that says what the line does."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(row, dict):
        raise ValueError("is not an object")
    if missing := [name for name in FIELDS if name not in row]:
        raise ValueError(f"lacks {listed(missing)}")
    for name in FIELDS:
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f"has {json.dumps(row[name])[:40]} for {name}, not a text")
        try:
            row[name].encode()
        except UnicodeEncodeError:
            raise ValueError(f"has half a character in its {name}") from None
    return Problem(*(row[name] for name in FIELDS))


def sample_problems(
    problems: Sequence[Problem], count: int, seed: int, progress: Progress = SILENT
) -> list[Problem]:
    """So many problems of each category, in their order; a category that has fewer gives all and `progress` says so.

    The same seed gives the same ones, and a larger count more beside them.
    """
    by_category: dict[str, list[int]] = {}
    for number, problem in enumerate(problems):
        by_category.setdefault(problem.category, []).append(number)
    chosen: list[int] = []
    for category, numbers in by_category.items():
        order = _generator(seed, category).permutation(len(numbers))[:count]
        chosen += [numbers[place] for place in order]
        _say_fewer(category, len(order), count, progress)
    return [problems[number] for number in sorted(chosen)]


def read_mathematics_files(
    path: Path, count: int, seed: int = 0, progress: Progress = SILENT
) -> list[Problem]:
    """So many different problems of each module of DeepMind's published text files, modules by name.

    `path` is a file or a folder, in which every visible .txt file is read, those of folders in it as well; files of one
    name, as train-easy/ and train-hard/ have them, are one module. The same seed gives the same problems, and a larger
    count adds to the end of each module; one that has fewer gives all and `progress` says so. Raises `BadDataset`.
    """
    modules: dict[str, list[Path]] = {}
    for file in _text_files(path):
        modules.setdefault(file.stem, []).append(file)
    problems: list[Problem] = []
    with bar(progress, "reading problems", len(modules), "modules"):
        for module, files in sorted(modules.items()):
            drawn = _drawn([_ProblemFile.of(file) for file in files], module, count, seed)
            _say_fewer(module, len(drawn), count, progress)
            problems += drawn
            progress.advance(1, module)
    return problems


def _text_files(path: Path) -> list[Path]:
    """The file itself, or the visible .txt files below a folder, sorted; raises `BadDataset` where there is none."""
    if path.is_file() and path.suffix == ".txt":
        return [path]
    if not path.is_dir():
        raise BadDataset(
            f"{path} is no .txt file and no folder, so no published problems can be read from it."
        )
    files = sorted(file for file in visible_files(path) if file.suffix == ".txt")
    if not files:
        raise BadDataset(
            f"There is no .txt file in {path}. The published problems are one such file a module, as in "
            "interpolate/algebra__linear_1d.txt, question and answer on alternate lines."
        )
    return files


@dataclass(frozen=True)
class _ProblemFile:
    """A file with a question and its answer on alternate lines."""

    path: Path
    ends: np.ndarray
    """Offset behind the last character of each line, int64."""

    @classmethod
    def of(cls, path: Path) -> _ProblemFile:
        """The file's lines; raises `BadDataset` for an empty one among them, or an odd number of them."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadDataset(f"{path} cannot be read: {error.strerror}.") from error
        if data and not data.endswith(b"\n"):
            data += b"\n"
        text = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(text == _LINE_FEED)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        empty = (ends == starts) | ((ends - starts == 1) & (text[starts] == ord("\r")))
        if empty.any():
            raise BadDataset(
                f"{path}: line {int(np.argmax(empty)) + 1} is empty; a question and its answer are a line each."
            )
        if not len(ends) or len(ends) % 2:
            raise BadDataset(
                f"{path} has {len(ends)} lines; questions and answers on alternate lines are an even number, 2 or more."
            )
        return cls(path, ends)

    def __len__(self) -> int:
        return len(self.ends) // 2

    def problem(self, category: str, number: int) -> Problem:
        """The problem of that number, from 0; raises `BadDataset` where it is not UTF-8."""
        start = 0 if number == 0 else int(self.ends[2 * number - 1]) + 1
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read(int(self.ends[2 * number + 1]) - start).split(b"\n")
        try:
            question, answer = (line.removesuffix(b"\r").decode() for line in lines)
        except UnicodeDecodeError:
            raise BadDataset(f"{self.path}: line {2 * number + 1} or the next is not UTF-8.") from None
        return Problem(category, question, answer)


def _drawn(files: Sequence[_ProblemFile], module: str, count: int, seed: int) -> list[Problem]:
    """So many problems of a module's files, no question twice."""
    firsts = np.cumsum([0, *map(len, files)])
    drawn: dict[str, Problem] = {}
    for number in _generator(seed, module).permutation(int(firsts[-1])):
        place = int(np.searchsorted(firsts, number, side="right")) - 1
        problem = files[place].problem(module, int(number - firsts[place]))
        drawn.setdefault(problem.question, problem)
        if len(drawn) == count:
            break
    return list(drawn.values())


def _generator(seed: int, category: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the category's name alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(category.encode())))


def _say_fewer(category: str, have: int, count: int, progress: Progress) -> None:
    if have < count:
        progress.say(f"{category} has {have} problems, all of which are taken; {count} were asked for.")
