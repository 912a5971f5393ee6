"""The oracle: a DLRM from nn.Embedding modules with dense gradients, in float64 and written the slow way."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM


class PlainDlrm(nn.Module):
    """The same network with the same weights as a given one; ids may be one per column or bags."""

    def __init__(self, model: DLRM, *, self_interaction: bool = False, cat: bool = False) -> None:
        super().__init__()
        self.self_interaction, self.cat, self.linear = self_interaction, cat, model.linear
        sizes = model.tables.sizes.tolist()
        weight = model.tables.weight.double()
        self.tables = nn.ModuleList()
        for start, end in itertools.pairwise(np.cumsum([0, *sizes])):
            rows = torch.cat([weight[start:end], torch.zeros(1, weight.shape[1], dtype=torch.float64)])
            self.tables.append(nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=int(end - start)))
        self.bottom = None if model.bottom is None else _clone(model.bottom)
        self.top = _clone(model.top)
        self.numbers = model.numbers and nn.Parameter(model.numbers.weight.detach().double())
        crossed = model.interaction.layers if model.interaction.name == "dcn" else None
        self.cross = crossed and nn.ModuleList(nn.ModuleList((_double(x.down), _double(x.up))) for x in crossed)

    def forward(self, batch: Batch) -> torch.Tensor:
        vectors = [] if self.bottom is None else [self.bottom(batch.numerical.double())]
        for j, table in enumerate(self.tables):
            rows = table(batch.categorical[:, j].long())
            vectors.append(rows.sum(1) if batch.categorical.dim() == 3 else rows)
        if self.numbers is not None:
            # Of each whole number's vector a share that falls from 1 at that number to 0 at its neighbours.
            whole = torch.arange(self.numbers.shape[1], dtype=torch.float64)
            numbers = batch.numerical.double().clamp(0, len(whole) - 1)
            shares = (1 - (numbers.unsqueeze(2) - whole).abs()).clamp_min(0)
            vectors += [shares[:, i] @ vectors_of for i, vectors_of in enumerate(self.numbers)]
        columns = vectors[self.bottom is not None :]
        linear = sum(v[:, 0] for v in columns) * columns[0].shape[1] ** 0.5 if self.linear and columns else 0
        if self.cross:
            x = x0 = torch.cat(vectors, 1)
            for down, up in self.cross:
                x = x0 * up(down(x)) + x
            return self.top(x).squeeze(1) + linear
        if self.cat:
            return self.top(torch.cat(vectors, 1)).squeeze(1) + linear
        pairs = [
            (vectors[i] * vectors[j]).sum(1) for i in range(len(vectors)) for j in range(i + self.self_interaction)
        ]
        padding = torch.zeros(len(batch.label), dtype=torch.float64)
        front = [] if self.bottom is None else [vectors[0]]
        return self.top(torch.cat([*front, torch.stack([*pairs, padding], 1)], 1)).squeeze(1) + linear

    def weight(self) -> torch.Tensor:
        """All tables, one below the other, as ``EmbeddingTables.weight`` has them."""
        return torch.cat([table.weight[:-1] for table in self.tables])


def _clone(part: nn.Sequential) -> nn.Sequential:
    layers = []
    for layer in part:
        layers.append(_double(layer) if isinstance(layer, nn.Linear) else nn.ReLU())
    return nn.Sequential(*layers)


def _double(layer: nn.Linear) -> nn.Linear:
    copy = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None).double()
    copy.load_state_dict(layer.state_dict())
    return copy
