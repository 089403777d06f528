"""Facts of a model beside its losses: parameters, layers, kind of positions; the training tokens of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from trajstore.display import count
from trajstore.errors import ModelMismatch
from trajstore.store.files.models import ModelFacts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trajstore.checkpoints.runs import CheckpointSource
    from trajstore.progress import Progress
    from trajstore.scoring.plan import Plan
    from trajstore.store.store import Store


def record_facts(store: Store, plan: Plan, progress: Progress) -> None:
    """Keep the training tokens of a step, if given or published, of a model with slices that lacks them, and say so.

    The first slice brings them for a new model. Raises `ModelMismatch` where another job has meanwhile given others.
    """
    tokens_per_step, known = plan.tokens_per_step, store.model(plan.model)
    if tokens_per_step is None or plan.model not in store.model_names():
        return
    if known is None or known.tokens_per_step is None:
        held = store.publish_model(ModelFacts(plan.model, tokens_per_step=tokens_per_step)).tokens_per_step
        if held != tokens_per_step:
            raise ModelMismatch(f"{plan.model} has {held:,} tokens a step, not {tokens_per_step:,}.")
        progress.say(f"{plan.model}: {count(tokens_per_step, 'training token')} a step noted.")


def facts_of_run(
    model: PreTrainedModel,
    name: str,
    source: CheckpointSource,
    tokenizer: str | None,
    tokens_per_step: int | None,
) -> ModelFacts:
    """The facts of a run's model under its name in the store, with what is known of the run."""
    return model_facts(
        model,
        name,
        repo=source.repo,
        size=source.run.size if source.run else None,
        seed=source.run.seed if source.run else None,
        parent=source.parent,
        tokenizer=tokenizer,
        tokens_per_step=tokens_per_step,
    )


def model_facts(
    model: PreTrainedModel,
    name: str,
    *,
    repo: str | None = None,
    size: str | None = None,
    seed: int | None = None,
    tokenizer: str | None = None,
    tokens_per_step: int | None = None,
    parent: str | None = None,
) -> ModelFacts:
    """The facts of a transformers causal language model under the name that it has in the store."""
    return ModelFacts(
        model=name,
        repo=repo,
        family=model.config.model_type,
        size=size,
        n_params=sum(parameter.numel() for parameter in model.parameters()),
        n_nonembedding=count_nonembedding(model),
        n_layer=getattr(model.config, "num_hidden_layers", None),
        position_embedding=position_embedding(model),
        seed=seed,
        tokenizer=tokenizer,
        tokens_per_step=tokens_per_step,
        parent=parent,
    )


def count_nonembedding(model: PreTrainedModel) -> int:
    """Parameters outside every `nn.Embedding` (tokens, learned positions) and outside the head's matrix.

    A bias of the head counts; a matrix that is shared counts once, or not at all if it is an embedding.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()
    if head is not None:
        embeddings.add(id(head.weight))
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in embeddings)


def position_embedding(model: PreTrainedModel) -> str | None:
    """`rotary`, `alibi` or `learned`, as far as the configuration and the modules tell; else None."""
    config = model.config
    rotary = any("Rotary" in type(module).__name__ for module in model.modules())
    if rotary or getattr(config, "rotary_dim", None):
        return "rotary"
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "alibi"
    tokens = model.get_input_embeddings()
    others = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not tokens]
    longest = getattr(config, "max_position_embeddings", None) or 0
    if longest > 0 and any(module.num_embeddings >= longest for module in others):
        return "learned"
    return None
