"""DLRM as others train it, for ci/bench/train_cpu.py to compare with: from given weights, on given batches.

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
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.dataset import Batch

Contestant = Callable[[int], torch.Tensor]
_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}


class Weights(NamedTuple):
    """What every contestant starts from.

    Attributes:
        tables: float32 [rows, D] for each categorical column.
        bottom: The linear layers of the bottom MLP.
        top: Those of the top MLP; pairs of vectors come in the order of ``torch.tril_indices``.
    """

    tables: tuple[torch.Tensor, ...]
    bottom: tuple[nn.Linear, ...]
    top: tuple[nn.Linear, ...]


class Plain(nn.Module):
    """The ordinary PyTorch program: one module per table, one optimizer over all, everything inside autograd.

    With sparse gradients this is what facebookresearch/dlrm does on a CPU. The tables given are trained in place.
    """

    def __init__(self, weights: Weights, interaction_op: str, *, sparse: bool, bags: bool) -> None:
        super().__init__()
        kind = nn.EmbeddingBag if bags else nn.Embedding
        options = {"mode": "sum"} if bags else {}
        self.tables = nn.ModuleList(
            kind.from_pretrained(table, freeze=False, sparse=sparse, **options) for table in weights.tables
        )
        self.bottom = _mlp(weights.bottom)
        self.top = _mlp(weights.top)[:-1]
        self.dot = interaction_op == "dot"
        self.register_buffer("pairs", torch.tril_indices(len(self.tables) + 1, len(self.tables) + 1, offset=-1))

    def forward(self, numerical: torch.Tensor, columns: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32 [B, N] and per column int64 [B] or bags [B, L] → logits [B]."""
        bottom = self.bottom(numerical)
        vectors = [bottom, *(table(ids) for table, ids in zip(self.tables, columns, strict=True))]
        if not self.dot:
            return self.top(torch.cat(vectors, dim=1)).squeeze(1)
        stacked = torch.stack(vectors, dim=1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        return self.top(torch.cat([bottom, products[:, self.pairs[0], self.pairs[1]]], dim=1)).squeeze(1)


def plain(
    weights: Weights, batches: Sequence[Batch], model: ModelConfig, training: TrainingConfig, *, sparse: bool = True
) -> Contestant:
    """``Plain`` and torch's own optimizer; without ``sparse``, every step's gradient is as large as the tables."""
    network = Plain(weights, model.interaction_op, sparse=sparse, bags=batches[0].categorical.ndim == 3)
    optimizer = _OPTIMIZERS[training.optimizer](network.parameters(), lr=training.lr)
    columns = [[column.contiguous() for column in batch.categorical.long().unbind(1)] for batch in batches]

    def step(number: int) -> torch.Tensor:
        batch = batches[number % len(batches)]
        logits = network(batch.numerical, columns[number % len(batches)])
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torchrec(weights: Weights, batches: Sequence[Batch], model: ModelConfig, training: TrainingConfig) -> Contestant:
    """TorchRec's DLRM around FBGEMM's batched tables, whose optimizer is fused into the backward pass.

    The tables are called without TorchRec's ``KeyedJaggedTensor`` and ``FusedEmbeddingBagCollection`` between, which
    take time of their own: this is the faster way of the two. TorchRec has no concatenation of a single table's vector
    with the bottom MLP's, so there ``torch.cat`` does it.
    """
    _reach_installed_peers()
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        EmbeddingLocation,
        SplitTableBatchedEmbeddingBagsCodegen,
    )
    from torchrec.models.dlrm import DenseArch, InteractionArch, OverArch

    columns, dim, rows = len(weights.tables), model.embedding_dim, len(batches[0].label)
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(len(table), dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for table in weights.tables],
        optimizer={"sgd": EmbOptimType.EXACT_SGD, "adagrad": EmbOptimType.EXACT_ADAGRAD}[training.optimizer],
        learning_rate=training.lr,
        eps=1e-10,
    )
    for own, table in zip(tables.split_embedding_weights(), weights.tables, strict=True):
        own.copy_(table)
    bottom = DenseArch(weights.bottom[0].in_features, list(model.bottom_mlp_sizes))
    interaction = InteractionArch(columns)
    top = OverArch(weights.top[0].in_features, list(model.top_mlp_sizes))
    for own, linear in zip([*linears(bottom), *linears(top)], [*weights.bottom, *weights.top], strict=True):
        own.load_state_dict(linear.state_dict())
    if model.interaction_op == "dot":
        # TorchRec takes the pairs from the upper triangle: (a, b) stands at b·(b − 1)/2 + a of the lower one.
        a, b = interaction.triu_indices
        order = torch.cat([torch.arange(dim), dim + b * (b - 1) // 2 + a])
        with torch.no_grad():
            linears(top)[0].weight.copy_(weights.top[0].weight[:, order])
    optimizer = _OPTIMIZERS[training.optimizer]([*bottom.parameters(), *top.parameters()], lr=training.lr)
    bag = batches[0].categorical[0, 0].numel()
    ids = [batch.categorical.long().transpose(0, 1).flatten() for batch in batches]
    offsets = torch.arange(0, columns * rows * bag + 1, bag)

    def step(number: int) -> torch.Tensor:
        batch = batches[number % len(batches)]
        vectors = tables(ids[number % len(batches)], offsets).view(rows, columns, dim)
        numerical = bottom(batch.numerical)
        if model.interaction_op == "dot":
            features = interaction(numerical, vectors)
        else:
            features = torch.cat([numerical, vectors.flatten(1)], dim=1)
        loss = functional.binary_cross_entropy_with_logits(top(features).squeeze(1), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torchrec_is_installed() -> bool:
    """Whether ``set_up_peers`` of ci/set_up.py has been here, or TorchRec and FBGEMM are in this environment anyway."""
    _reach_installed_peers()
    return all(importlib.util.find_spec(name) for name in ("torchrec", "fbgemm_gpu"))


def linears(module: nn.Module) -> tuple[nn.Linear, ...]:
    """The linear layers of an MLP, first to last."""
    return tuple(layer for layer in module.modules() if isinstance(layer, nn.Linear))


def _reach_installed_peers() -> None:
    """Lets imports find the peers, after everything of this environment: all contestants use the same torch."""
    base = str(Path(__file__).resolve().parents[2] / ".venv-peers")
    folder = sysconfig.get_path("purelib", vars={"base": base, "platbase": base})
    if folder not in sys.path:
        sys.path.append(folder)


def _mlp(layers: Sequence[nn.Linear]) -> nn.Sequential:
    """Copies of the layers, each with a ReLU behind it."""
    return nn.Sequential(*(module for layer in layers for module in (copy.deepcopy(layer), nn.ReLU())))
