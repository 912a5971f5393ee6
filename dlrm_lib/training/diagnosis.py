"""What a person needs when training has gone wrong: strange inputs, where numbers broke, gradients, what helps.

It costs a forward and a backward pass in fp32, and is asked for only when a loss has shown that something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from dlrm_lib.backends.step import Prepared
from dlrm_lib.dataset import Split
from dlrm_lib.model import DLRM
from dlrm_lib.training.strange_numbers import strange_numbers

_HIGH = 10.0  # nats: no sound model loses so much
_JUDGED_ROWS = 2**17  # of an evaluated split that are looked at: enough for whatever has spoilt its mean loss


def diagnose(
    model: DLRM,
    batch: Prepared,
    row_ids: torch.Tensor,
    *,
    what: str,
    lr: float,
    precision: str,
    loss_scale: float,
    skipped: int,
    judged: Split | None = None,
) -> str:
    """Looks for the cause on the last batch, with the weights as its update left them.

    Args:
        model: On the device of ``batch``.
        batch: The last one trained on.
        row_ids: The rows of the tables that it stands for, int64 [B, M] or [B, M, L].
        what: What was seen: the first line.
        lr: Learning rate of the last step.
        precision: fp32, bf16 or fp16.
        loss_scale: As in ``Progress``.
        skipped: As in ``Progress``.
        judged: The split whose evaluation has shown it, if one has; its first rows are looked at too.

    Returns:
        Five to seven lines for a person.
    """
    rows = model.tables.gather(row_ids).detach().requires_grad_()
    bad_layer = _first_bad_layer(model, batch.numerical, rows)
    with_weights = [name for name, layer in _layers(model) if list(layer.parameters())]
    bad_weights = [name for name in with_weights if not _is_finite(model.get_submodule(name))]
    loss, norms = _gradient_norms(model, batch, rows)
    spoilt = [f"{_some(bad_weights)} ({len(bad_weights)} of {len(with_weights)} layers)"] if bad_weights else []
    if bad_rows := _bad_embedding_rows(model):
        spoilt.append(bad_rows)
    finite = bool(batch.numerical.isfinite().all())
    strange = strange_numbers(model, batch.numerical, "the last batch") if finite else None
    if judged and not strange:
        strange = strange_numbers(model, judged.read(0, _JUDGED_ROWS).numerical, f"the {judged.name} split")
    if not finite:
        remedy = "Train on finite numbers: encode the raw rows again."
    elif precision == "fp16" and loss < _HIGH:
        remedy = "Numbers left the range of fp16: lower --loss_scale, or use --precision bf16 or fp32."
    else:
        remedy = "Lower --lr, or lengthen --warmup_steps."
    if strange:
        remedy = f"Look at this column first, from the raw rows on. If all is well with it: {remedy}"
    if bad_weights == with_weights:
        remedy += " All layers are spoilt by now: --print_freq 1 stops where it begins."
    return "\n".join(
        [
            what,
            f"  found: learning rate {lr:g}, {precision}, loss scale {loss_scale:g}, {skipped:,} steps skipped",
            *([f"  inputs: {strange}"] if strange else []),
            f"  first bad layer: {bad_layer or f'none; in fp32 the loss of the last batch is {loss:g}'}",
            *([f"  weights that are not finite: {'; '.join(spoilt)}"] if spoilt else []),
            f"  gradient norms on the last batch: {norms}",
            f"  remedy: {remedy} Checkpoints written before are as they were.",
        ]
    )


def _first_bad_layer(model: DLRM, numerical: torch.Tensor, rows: torch.Tensor) -> str | None:
    """The first place in a forward pass where a number is not finite, and whether its weights are to blame."""
    if not numerical.isfinite().all():
        return "none before the numerical columns of the batch, which are not finite themselves"
    columns = torch.nonzero(~rows.isfinite().all(-1).all(0)).flatten().tolist()
    if columns:
        return f"embeddings of {_columns(model, columns)}"
    found: list[str] = []

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            bad = int((~output.isfinite()).sum())
            if bad and not found:
                cause = "though its inputs and weights are" if _is_finite(layer) else "nor are its weights"
                found.append(
                    f"{name} ({type(layer).__name__}): {bad:,} of {output.numel():,} outputs are not finite, {cause}"
                )

        return layer.register_forward_hook(see)

    handles = [watch(name, layer) for name, layer in _layers(model)]
    try:
        with torch.no_grad():
            model.dense(numerical, rows)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _bad_embedding_rows(model: DLRM) -> str | None:
    tables = model.tables
    bad = torch.nonzero(~tables.weight.sum(1).isfinite()).flatten()
    if not len(bad):
        return None
    columns = torch.unique(torch.searchsorted(tables.offsets, bad, right=True) - 1).tolist()
    return f"{len(bad):,} of {len(tables.weight):,} embedding rows ({_columns(model, columns)})"


def _gradient_norms(model: DLRM, batch: Prepared, rows: torch.Tensor) -> tuple[float, str]:
    """The loss of the batch, and the norm of its gradient by each layer and by the embeddings."""
    named = dict(model.named_parameters())
    loss = functional.binary_cross_entropy_with_logits(model.dense(batch.numerical, rows), batch.label)
    *gradients, of_rows = torch.autograd.grad(loss, [*named.values(), rows])
    squares = dict.fromkeys((name.rpartition(".")[0] for name in named), 0.0)
    for name, gradient in zip(named, gradients, strict=True):
        squares[name.rpartition(".")[0]] += float(gradient.double().square().sum())
    squares["embeddings"] = float(of_rows.double().square().sum())
    return loss.item(), ", ".join(f"{name} {square**0.5:.3g}" for name, square in squares.items())


def _layers(model: DLRM) -> list[tuple[str, nn.Module]]:
    return [(name, layer) for name, layer in model.named_modules() if not list(layer.children())]


def _is_finite(layer: nn.Module) -> bool:
    return all(bool(weight.isfinite().all()) for weight in layer.state_dict().values())


def _columns(model: DLRM, numbers: list[int]) -> str:
    names = [model.spec.columns.categorical_names[number] for number in numbers]
    return f"categorical column{'s' if len(names) > 1 else ''} {_some(names)}"


def _some(names: Iterable[object]) -> str:
    *first, last = map(str, names)
    return ", ".join([*first[:7], "…", last] if len(first) > 7 else [*first, last])
