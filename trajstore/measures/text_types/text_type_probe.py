"""Text type probe: how well a linear classifier tells kinds of text apart by mean hidden states, by layer."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures.definitions import REQUIRED, MeasureDefinition
from trajstore.measures.streams import Stream
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from trajstore.measures.streams import Batch, PassFacts


def kept_labels(labels: Sequence[str]) -> tuple[str, object]:
    """The key and value by which params say which kinds contexts were of."""
    return "labels", _hash(labels)


def kept_documents(documents: Sequence[object] | None) -> tuple[str, object]:
    """The key and value by which params say which documents contexts were of."""
    return "documents", "contexts" if documents is None else _hash(documents)


def _hash(values: Sequence[object]) -> str:
    """`sha256:…` over the values as text, in order."""
    return "sha256:" + hashlib.sha256(json.dumps([str(value) for value in values]).encode()).hexdigest()


class TextTypeProbe(Stream):
    """The mean hidden state of each context at each layer, with the kind and the document that it is of."""

    def __init__(
        self, labels: Sequence[str], documents: Sequence[object] | None, folds: int, seed: int
    ) -> None:
        if folds < 2:
            raise BadMeasures(f"text_type_probe takes 2 folds or more, and not {folds}.")
        self.labels = np.asarray(labels)
        self.documents = np.arange(len(self.labels)) if documents is None else np.asarray(documents)
        self.folds, self.seed = folds, seed
        self.kept = dict([kept_labels(labels), kept_documents(documents)])

    def begin(self, facts: PassFacts) -> None:
        """Make room, where there are enough documents of two kinds or more."""
        if not len(facts.ids) == len(self.labels) == len(self.documents):
            raise BadMeasures(
                f"text_type_probe takes a label and a document for each of {len(facts.ids)} contexts, not "
                f"{len(self.labels)} and {len(self.documents)}."
            )
        kinds = {label: len(set(self.documents[self.labels == label])) for label in np.unique(self.labels)}
        if len(kinds) < 2 or min(kinds.values()) < self.folds:
            raise NotMeasurable(
                f"text_type_probe takes two kinds of text or more, each of {self.folds} documents or more."
            )
        self.means: dict[int, npt.NDArray[np.float64]] = {}

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Take the means of a batch."""
        real = batch.real(hidden.device)[..., None]
        means = self.means.setdefault(layer, np.zeros((len(self.labels), hidden.shape[-1])))
        means[batch.numbers] = ((hidden * real).sum(1) / real.sum(1)).cpu().numpy()

    def finish(self) -> list[Measure]:
        """The share of contexts whose kind is told, and the same with labels shuffled between documents."""
        params = {
            "classes": len(np.unique(self.labels)),
            "folds": self.folds,
            "seed": self.seed,
            **self.kept,
        }
        shuffled = shuffled_labels(self.labels, self.documents, self.seed)
        rows = []
        for layer, means in sorted(self.means.items()):
            for name, labels in (("text_type_probe", self.labels), ("text_type_probe_shuffled", shuffled)):
                shares = told_apart(means, labels, self.documents, self.folds, self.seed)
                stderr = float(shares.std(ddof=1) / len(shares) ** 0.5)
                rows.append(Measure(name, float(shares.mean()), layer=layer, stderr=stderr, params=params))
        return rows


def shuffled_labels(
    labels: npt.NDArray[np.str_], documents: npt.NDArray[np.generic], seed: int
) -> npt.NDArray[np.str_]:
    """Labels drawn for whole documents, from those that documents have."""
    _, first, number = np.unique(documents, return_index=True, return_inverse=True)
    return np.random.default_rng(seed).permutation(labels[first])[number]


def told_apart(
    features: npt.NDArray[np.float64],
    labels: npt.NDArray[np.str_],
    documents: npt.NDArray[np.generic],
    folds: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """The share of contexts told in each fold, by logistic regression on the other folds' documents."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise NotMeasurable("text_type_probe takes scikit-learn: pip install scikit-learn") from error
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, documents)
    shares = []
    for train, test in splits:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(features[train], labels[train])
        shares.append(float(np.mean(classifier.predict(features[test]) == labels[test])))
    return np.array(shares)


DEFINITIONS = (
    MeasureDefinition(
        "text_type_probe",
        formula="share of contexts whose kind logistic regression tells by their mean hidden state, on other documents",
        unit="1",
        stream=TextTypeProbe,
        needs=("hidden",),
        axes=("layer",),
        parameters={"labels": REQUIRED, "documents": None, "folds": 5, "seed": 0},
        kept_as={"labels": kept_labels, "documents": kept_documents},
        cost="probe",
        source=(
            "Alain and Bengio 2016, Understanding intermediate layers using linear classifier probes; labels at random "
            "beside it as in Hewitt and Liang 2019, Designing and interpreting probes with control tasks"
        ),
        meaning=(
            "Whether the kind of a text can be read off a layer along a line. _shuffled is the same with labels "
            "shuffled between documents: what is above it was not learned by heart. Contexts of one document are "
            "never in both parts of a split, and the standard error is that over folds."
        ),
    ),
)
