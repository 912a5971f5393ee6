"""DLRM as others train it, for benches to compare with: from the library's own model, on given batches.

A peer takes its columns, layers, first weights and settings from the model that it stands beside. What it has no form
of its own for (numbers on one scale, flags and vectors of numbers) it takes whole. So no setting of a preset lets the
two compute different things. What a peer cannot do at all, it refuses by name.

A contestant is a function: the number of a batch → the batch's mean loss, after one step of training on it. Whatever
form a peer wants its inputs in is made before, as a loader of its own would.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM

Contestant = Callable[[int], torch.Tensor]
_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}


class Inputs(nn.Module):
    """What becomes of the numbers before the bottom MLP, and beside it: the library's, with weights of its own."""

    def __init__(self, model: DLRM) -> None:
        super().__init__()
        self.standardise, self.missing = model.standardise, model.missing
        self.numbers = copy.deepcopy(model.numbers)

    def forward(self, numerical: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """float32 [B, N] → the bottom MLP's input, and the vectors that stand for numbers, each [B, D], if any do."""
        numbers = self.standardise(numerical)
        if self.missing:
            numbers = torch.cat([numbers, self.missing(numerical)], 1)
        return numbers, list(self.numbers(numerical).unbind(1)) if self.numbers else []


class Plain(nn.Module):
    """The ordinary PyTorch program: one module per table, one optimizer over all, everything inside autograd.

    With sparse gradients this is what facebookresearch/dlrm does on a CPU. The model's tables are trained in place.

    Raises:
        InputError: it has no such interaction.
    """

    def __init__(self, model: DLRM, config: ModelConfig, *, sparse: bool) -> None:
        super().__init__()
        if config.interaction_op not in ("dot", "cat"):
            raise InputError("The ordinary PyTorch program has no such interaction.", found=config.interaction_op)
        bags = config.num_indices_per_lookup > 1
        kind = nn.EmbeddingBag if bags else nn.Embedding
        options = {"mode": "sum"} if bags else {}
        self.tables = nn.ModuleList(
            kind.from_pretrained(table, freeze=False, sparse=sparse, **options) for table in tables_of(model)
        )
        self.inputs = Inputs(model)
        self.bottom = mlp(linears(model.bottom)) if model.bottom else None
        self.dot, self.linear = config.interaction_op == "dot", config.linear
        vectors = model.interaction.vectors
        pairs = torch.tril_indices(vectors, vectors, offset=0 if config.self_interaction else -1)
        self.register_buffer("pairs", pairs)
        self.top = mlp(unpadded_top(model))[:-1]

    def forward(self, numerical: torch.Tensor, columns: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32 [B, N] and per column int64 [B] or bags [B, L] → logits [B]."""
        embedded = [table(ids) for table, ids in zip(self.tables, columns, strict=True)]
        bottom = []
        if self.bottom:
            inputs, numbers = self.inputs(numerical)
            bottom, embedded = [self.bottom(inputs)], embedded + numbers
        if self.dot:
            stacked = torch.stack([*bottom, *embedded], dim=1)
            products = torch.bmm(stacked, stacked.transpose(1, 2))
            features = [*bottom, products[:, self.pairs[0], self.pairs[1]]]
        else:
            features = [*bottom, *embedded]
        logits = self.top(torch.cat(features, dim=1)).squeeze(1)
        return logits + alone(embedded) if self.linear else logits


def plain(
    model: DLRM, config: ModelConfig, training: TrainingConfig, batches: Sequence[Batch], *, sparse: bool = True
) -> Contestant:
    """``Plain`` and torch's own optimizer; without ``sparse``, every step's gradient is as large as the tables.

    Raises:
        InputError: it has no such interaction or optimizer.
    """
    network = Plain(model, config, sparse=sparse)
    optimizer = optimizer_of(training)(network.parameters(), lr=training.lr)
    columns = [columns_of(model, batch) for batch in batches]

    def step(number: int) -> torch.Tensor:
        batch = batches[number % len(batches)]
        logits = network(batch.numerical, columns[number % len(batches)])
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torchrec(model: DLRM, config: ModelConfig, training: TrainingConfig, batches: Sequence[Batch]) -> Contestant:
    """TorchRec's DLRM around FBGEMM's batched tables, whose optimizer is fused into the backward pass.

    The tables are called without TorchRec's ``KeyedJaggedTensor`` and ``FusedEmbeddingBagCollection`` between, which
    take time of their own: this is the faster way of the two. TorchRec has no concatenation of a single table's vector
    with the bottom MLP's, so there ``torch.cat`` does it.

    Raises:
        InputError: TorchRec has no such interaction, or FBGEMM no such optimizer; or the data have no numbers.
    """
    if config.interaction_op not in ("dot", "cat") or config.self_interaction or not model.bottom:
        what = f"{config.interaction_op}, self_interaction {config.self_interaction}, bottom MLP {bool(model.bottom)}"
        raise InputError("TorchRec has no such interaction.", found=what)
    reach_installed_peers()
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        EmbeddingLocation,
        SplitTableBatchedEmbeddingBagsCodegen,
    )
    from torchrec.models.dlrm import DenseArch, InteractionArch, OverArch

    fused = {"sgd": EmbOptimType.EXACT_SGD, "adagrad": EmbOptimType.EXACT_ADAGRAD}
    if training.optimizer not in fused:
        raise InputError("FBGEMM's tables have no such optimizer on a CPU.", found=training.optimizer)
    inputs, vectors = Inputs(model), model.interaction.vectors
    columns, dim, rows = len(model.spec.cardinalities), config.embedding_dim, len(batches[0].label)
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(len(table), dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for table in tables_of(model)],
        optimizer=fused[training.optimizer],
        learning_rate=training.lr,
        eps=1e-10,
    )
    for own, table in zip(tables.split_embedding_weights(), tables_of(model), strict=True):
        own.copy_(table)
    bottom = DenseArch(linears(model.bottom)[0].in_features, list(config.bottom_mlp_sizes))
    interaction = InteractionArch(vectors - 1)
    dot = config.interaction_op == "dot"
    order = torch.arange(vectors * dim)
    if dot:
        # TorchRec takes the pairs from the upper triangle: (a, b) stands at b·(b − 1)/2 + a of the lower one.
        a, b = interaction.triu_indices
        order = torch.cat([torch.arange(dim), dim + b * (b - 1) // 2 + a])
    top = OverArch(len(order), list(config.top_mlp_sizes))
    given = [*linears(model.bottom), *unpadded_top(model)]
    for own, linear in zip([*linears(bottom), *linears(top)], given, strict=True):
        own.load_state_dict(linear.state_dict())
    with torch.no_grad():
        linears(top)[0].weight.copy_(linears(model.top)[0].weight[:, order])
    parameters = [*bottom.parameters(), *top.parameters(), *inputs.parameters()]
    optimizer = optimizer_of(training)(parameters, lr=training.lr)
    bag = batches[0].categorical[0, 0].numel()
    ids = [torch.stack(columns_of(model, batch)).flatten() for batch in batches]
    offsets = torch.arange(0, columns * rows * bag + 1, bag)

    def step(number: int) -> torch.Tensor:
        batch = batches[number % len(batches)]
        embedded = tables(ids[number % len(batches)], offsets).view(rows, columns, dim)
        into_bottom, of_numbers = inputs(batch.numerical)
        if of_numbers:
            embedded = torch.cat([embedded, torch.stack(of_numbers, 1)], 1)
        numerical = bottom(into_bottom)
        features = interaction(numerical, embedded) if dot else torch.cat([numerical, embedded.flatten(1)], dim=1)
        logits = top(features).squeeze(1)
        if config.linear:
            logits = logits + alone(embedded.unbind(1))
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def tables_of(model: DLRM) -> tuple[torch.Tensor, ...]:
    """The model's own tables, one for each column, float32 [rows, D]: not copies."""
    sizes = model.tables.sizes.tolist()
    return model.tables.weight[: sum(sizes)].split(sizes)


def columns_of(model: DLRM, batch: Batch) -> list[torch.Tensor]:
    """For each column the rows of its table, int64 [B] or [B, L]; bags are full, as random ones are."""
    columns = batch.categorical.long().unbind(1)
    return [(ids % len(table)).contiguous() for ids, table in zip(columns, tables_of(model), strict=True)]


def unpadded_top(model: DLRM) -> list[nn.Linear]:
    """The top MLP's layers, the first of them without what only pads its input."""
    first, *others = linears(model.top)
    width = model.interaction.width - model.interaction.padding
    narrow = nn.Linear(width, first.out_features, device=first.weight.device)
    with torch.no_grad():
        narrow.weight.copy_(first.weight[:, :width])
        narrow.bias.copy_(first.bias)
    return [narrow, *others]


def alone(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """What each vector [B, D] adds to the logits by itself (the setting ``linear``), [B]."""
    return vectors[0].shape[1] ** 0.5 * torch.stack([vector[:, 0] for vector in vectors], 1).sum(1)


def optimizer_of(training: TrainingConfig) -> type[torch.optim.Optimizer]:
    """Torch's own.

    Raises:
        InputError: torch has none of that name that takes sparse gradients.
    """
    if training.optimizer not in _OPTIMIZERS:
        raise InputError("Torch has no such optimizer with sparse gradients.", found=training.optimizer)
    return _OPTIMIZERS[training.optimizer]


def torchrec_is_installed() -> bool:
    """Whether ``set_up_peers`` of ci/set_up.py has been here, or TorchRec and FBGEMM are in this environment anyway."""
    reach_installed_peers()
    return all(importlib.util.find_spec(name) for name in ("torchrec", "fbgemm_gpu"))


def linears(module: nn.Module) -> tuple[nn.Linear, ...]:
    """The linear layers of an MLP, first to last."""
    return tuple(layer for layer in module.modules() if isinstance(layer, nn.Linear))


def reach_installed_peers() -> None:
    """Lets imports find the peers, after everything of this environment: all contestants use the same torch."""
    base = str(Path(__file__).resolve().parents[2] / ".venv-peers")
    folder = sysconfig.get_path("purelib", vars={"base": base, "platbase": base})
    if folder not in sys.path:
        sys.path.append(folder)


def mlp(layers: Sequence[nn.Linear]) -> nn.Sequential:
    """Copies of the layers, each with a ReLU behind it."""
    return nn.Sequential(*(module for layer in layers for module in (copy.deepcopy(layer), nn.ReLU())))
