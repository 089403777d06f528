"""The demo's text: what every Python carries, split into training and held-out documents.

Three kinds of text and one that is no text: docs (the help topics of `pydoc_data`), code (sources of the
standard library), arithmetic (generated questions), and repeats (random tokens, then the same again).
A hash of a document's name (of the operands, in arithmetic) says on which side it falls, so that the
split is the same everywhere; only the training side is trained on, only the held-out side is scored.
Text of the standard library differs from one Python version to the next, so `Corpus.sha256` goes into a
suite's facts. Nothing is downloaded; torch is not used.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trajstore.errors import BadDataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

KINDS = ("docs", "code", "arithmetic")
"""The kinds of text, in the order in which everything here lists them."""
DATASETS = (*KINDS, "repeats")
"""Datasets that are scored; probes of measures are in the store beside them."""
CONTEXT = 128
"""Tokens in a context, in training and in the repeats that are scored."""
VOCABULARY = 512
"""Entries of the tokenizer: the 256 bytes and 256 merges."""

_HELDOUT_SHARE = 0.2
_SHORTEST_SHARED = 80
_SHEETS = 600
_QUESTIONS = 40
_REPEATS_STREAM = 1

_MODULES = (  # noqa: SIM905 (a hundred quoted names are harder to read)
    "_collections_abc _markupbase _strptime _weakrefset abc ast base64 bdb calendar cmd code codecs "
    "codeop colorsys compileall configparser contextlib copy copyreg csv dataclasses dis filecmp "
    "fileinput fnmatch fractions ftplib functools genericpath getopt getpass gettext glob graphlib gzip "
    "hashlib heapq hmac imaplib ipaddress linecache lzma mimetypes netrc ntpath numbers opcode operator "
    "optparse os pickle pkgutil platform plistlib poplib posixpath pprint profile pstats py_compile "
    "pyclbr queue quopri random reprlib runpy sched secrets selectors shelve shlex shutil smtplib socket "
    "socketserver ssl stat statistics string symtable tabnanny tempfile textwrap threading timeit "
    "tokenize trace traceback tracemalloc types uuid warnings wave weakref webbrowser zipapp"
).split()
"""Pure Python modules of the standard library, each one file, in Python 3.11 to 3.13 alike."""


@dataclass(frozen=True)
class Corpus:
    """The documents of each kind on both sides of the split, by name."""

    training: dict[str, dict[str, str]]
    """kind → document → text."""
    heldout: dict[str, dict[str, str]]
    """kind → document → text."""

    @property
    def sha256(self) -> str:
        """`sha256:…` over both sides, so that another Python's text is told apart."""
        both = json.dumps([self.training, self.heldout], sort_keys=True)
        return "sha256:" + hashlib.sha256(both.encode()).hexdigest()


def is_heldout(name: str) -> bool:
    """Return whether what has this name is kept from training: the first 8 bytes of its sha256, as a share of 1."""
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return first / 2**64 < _HELDOUT_SHARE


@cache
def corpus() -> Corpus:
    """Both sides of the split, from the running Python's own files.

    Help topics quote one another, so a paragraph that is held out is cut from the training side as well.
    Raises `BadDataset` where this Python carries no help topics or no sources.
    """
    training: dict[str, dict[str, str]] = {}
    heldout: dict[str, dict[str, str]] = {}
    for kind, texts in (("docs", _topics()), ("code", _sources())):
        heldout[kind] = {name: text for name, text in texts.items() if is_heldout(f"{kind}/{name}")}
        kept = {p for text in heldout[kind].values() for p in shareable(text)}
        training[kind] = {
            name: _without(text, kept) for name, text in texts.items() if name not in heldout[kind]
        }
        if not heldout[kind] or not training[kind]:
            raise BadDataset(
                f"The demo takes its {kind} from the standard library, and this Python's, in "
                f"{sysconfig.get_path('stdlib')}, has none. Run the demo with a full Python."
            )
    training["arithmetic"] = _sheets(held=False)
    heldout["arithmetic"] = _sheets(held=True)
    return Corpus(training, heldout)


def write_heldout(folder: Path) -> dict[str, Path]:
    """Write docs.jsonl, code.jsonl and arithmetic.jsonl (columns text, document): kind → file.

    They are what `trajstore dataset add` takes; the folder is made if it is not there.
    """
    written = {}
    for kind in KINDS:
        rows = [{"text": text, "document": name} for name, text in sorted(corpus().heldout[kind].items())]
        written[kind] = _write_rows(folder / f"{kind}.jsonl", rows)
    return written


def repeats(n_contexts: int, seed: int, vocabulary: int) -> list[np.ndarray]:
    """Contexts of `CONTEXT` int32 ids: random tokens in the first half, the same again in the second.

    Tokens are uniform over `range(vocabulary)`; after position `CONTEXT // 2`, each token can be known
    from the context. Drawn from a stream of random numbers that training does not use, whatever its seed.
    """
    rng = np.random.default_rng([_REPEATS_STREAM, seed])
    halves = rng.integers(0, vocabulary, (n_contexts, CONTEXT // 2), dtype=np.int32)
    return [np.tile(half, 2) for half in halves]


def write_repeats(folder: Path, n_contexts: int, seed: int) -> Path:
    """Write the contexts of `repeats` as repeats.jsonl (columns input_ids, document), for `dataset add`."""
    rows = [
        {"input_ids": ids.tolist(), "document": f"repeat-{number}"}
        for number, ids in enumerate(repeats(n_contexts, seed, VOCABULARY))
    ]
    return _write_rows(folder / "repeats.jsonl", rows)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` entries made from the training side; it adds no special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = (text for kind in KINDS for _, text in sorted(corpus().training[kind].items()))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def shareable(text: str) -> Iterator[str]:
    """The paragraphs of a text long enough to tell that they were copied, their white space made even."""
    for paragraph in re.split(r"\n\s*\n", text):
        even = " ".join(paragraph.split())
        if len(even) >= _SHORTEST_SHARED:
            yield even


def _without(text: str, unwanted: set[str]) -> str:
    """The text less the paragraphs that are unwanted."""
    paragraphs = re.split(r"(\n\s*\n)", text)
    if not any(" ".join(p.split()) in unwanted for p in paragraphs):
        return text
    return "\n\n".join(p for p in paragraphs[::2] if " ".join(p.split()) not in unwanted)


def _topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    return {str(name): str(text) for name, text in sorted(topics.items())}


def _sources() -> dict[str, str]:
    """The sources in `_MODULES` that can be read."""
    sources = {}
    for module in _MODULES:
        path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
        try:
            sources[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return sources


def _sheets(*, held: bool) -> dict[str, str]:
    """Sheets of questions whose operands all lie on one side of the split; the share of sheets is the same.

    The operands decide, not the wording: who is asked 17+25 is not asked 25+17 or 42−17 on the other side.
    """
    draw = random.Random(f"arithmetic {held}")  # noqa: S311 (no secret is made)
    sides = [(a, b) for a in range(100) for b in range(a, 100) if is_heldout(f"arithmetic/{a},{b}") == held]
    count = round(_SHEETS * (_HELDOUT_SHARE if held else 1 - _HELDOUT_SHARE))
    return {
        f"sheet-{number:03}": "".join(_question(draw, *draw.choice(sides)) for _ in range(_QUESTIONS))
        for number in range(count)
    }


def _question(draw: random.Random, a: int, b: int) -> str:
    """One line: a question on these operands, in either order, and its answer."""
    if draw.random() < 0.5:
        a, b = b, a
    forms = [
        f"{a}+{b}={a + b}\n",
        f"{a + b}-{a}={b}\n",
        f"What is {a} plus {b}? {a + b}\n",
        f"Take {a} from {a + b}: {b}\n",
    ]
    return draw.choice(forms)


def _write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
