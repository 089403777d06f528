"""Kinds of text are told where they are planted apart, and no better than by chance where they are not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures import Batch, Measure, MeasureDefinition, PassFacts, measure
from trajstore.measures.definitions import own
from trajstore.measures.text_types.text_type_probe import TextTypeProbe, shuffled_labels


def probe(**parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == "text_type_probe"]
    return definition.with_parameters(**parameters)


def values(definition: MeasureDefinition, states: np.ndarray) -> dict[str, float]:
    """Of hidden states (contexts, tokens, width) at one layer."""
    ids = [np.zeros(states.shape[1], int)] * len(states)
    stream = definition.make_stream()
    stream.begin(PassFacts(None, ids, 1))  # type: ignore[arg-type]
    stream.layer(0, torch.as_tensor(states, dtype=torch.float32), Batch(list(range(len(ids))), ids))
    return {row.name: row.value for row in stream.finish()}


def test_separable_and_inseparable_kinds() -> None:
    draw = np.random.default_rng(0)
    labels = np.array(["code", "prose", "sums"])[np.arange(90) % 3]
    states = draw.normal(size=(90, 4, 6))
    apart = states + 6 * np.eye(6)[np.arange(90) % 3][:, None]
    told = values(probe(labels=labels), apart)
    assert told["text_type_probe"] > 0.97
    assert told["text_type_probe_shuffled"] < 0.55
    assert values(probe(labels=labels), states)["text_type_probe"] == pytest.approx(1 / 3, abs=0.17)


def test_documents_are_never_on_both_sides() -> None:
    """Where a document is known by heart but says nothing of its kind, the share is that of chance."""
    draw = np.random.default_rng(1)
    documents = np.repeat(np.arange(30), 6)
    labels = np.where(documents % 2 == 0, "a", "b")
    states = (8 * draw.normal(size=(30, 40)))[documents][:, None] + 0.01 * draw.normal(size=(180, 1, 40))
    by_document = values(probe(labels=labels, documents=documents), states)
    by_context = values(probe(labels=labels), states)
    assert by_context["text_type_probe"] > 0.95
    assert by_document["text_type_probe"] < 0.75
    shuffled = shuffled_labels(labels, documents, 0)
    assert all(len(set(shuffled[documents == each])) == 1 for each in range(30))
    assert sorted(shuffled) == sorted(labels)


def test_means_of_a_models_states() -> None:
    """Contexts of one token each have its embedding as their mean, whatever their length and padding."""
    model = tiny("llama")
    contexts = [np.full(4 + n % 5, 5 + 200 * (n % 2)) for n in range(30)]
    kept: list[TextTypeProbe] = []
    definition = probe(labels=["ab"[n % 2] for n in range(30)])
    watched = replace(definition, stream=lambda **given: kept.append(TextTypeProbe(**given)) or kept[-1])
    rows = measure(model, contexts, [watched], batch_tokens=60).measures["text_type_probe"]
    embedding = model.model.embed_tokens.weight.detach().numpy()
    assert kept[0].means[0] == pytest.approx(embedding[[5, 205] * 15], abs=1e-6)
    first = [row for row in rows if row.layer == 0 and row.name == "text_type_probe"]
    of_labels = hashlib.sha256(json.dumps(["a", "b"] * 15).encode()).hexdigest()
    params = {
        "classes": 2,
        "folds": 5,
        "seed": 0,
        "labels": f"sha256:{of_labels}",
        "documents": "contexts",
    }
    assert first == [Measure("text_type_probe", 1.0, layer=0, stderr=0.0, params=params)]


def test_what_has_no_probe() -> None:
    states = np.zeros((12, 2, 3))
    with pytest.raises(NotMeasurable, match="two kinds of text or more"):
        values(probe(labels=["a"] * 12), states)
    with pytest.raises(NotMeasurable, match="each of 5 documents"):
        values(probe(labels=["a"] * 8 + ["b"] * 4), states)
    with pytest.raises(BadMeasures, match="for each of 12 contexts, not 3 and 3"):
        values(probe(labels=["a", "b", "a"]), states)
    with pytest.raises(BadMeasures, match="2 folds or more"):
        probe(labels=["a"], folds=1).make_stream()
