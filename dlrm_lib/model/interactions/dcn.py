"""Cross layers of low rank: DCN-v2 (Wang et al. 2021, https://arxiv.org/abs/2008.13535).

Where dot products meet in pairs and the top MLP does the rest, each cross layer multiplies what it has by the input
again, number by number: after L layers there are products of up to L + 1 numbers. It is the interaction of MLPerf's
DLRM since 2023 (training v3.0), there with three layers of rank 512 for 27 vectors of 128 numbers.
"""

from __future__ import annotations

import torch
from torch import nn

from dlrm_lib.config import ModelConfig
from dlrm_lib.model.cost import Cost, layer_cost, linear_layers
from dlrm_lib.model.interactions import Interaction


class CrossLayer(nn.Module):
    """One layer: [B, W] and the input [B, W] → [B, W], W = F·D.

    x' = x0 ⊙ (U V x + b) + x, with V of [rank, W] and U of [W, rank] in place of one matrix of W².

    Attributes:
        down: V.
        up: U with b.
    """

    def __init__(self, width: int, rank: int) -> None:
        """Draws U and V from normal(0, sqrt(2 / (in + out))), as the MLPs' weights; b starts at zero."""
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)
        for layer in (self.down, self.up):
            nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(x, x0, self.up(self.down(x)).to(x.dtype))


class DcnInteraction(Interaction):
    """All vectors side by side, through cross layers.

    Attributes:
        layers: The cross layers, in their order.
        width: F·D.
    """

    name = "dcn"

    def __init__(self, vectors: int, has_bottom: bool, config: ModelConfig) -> None:
        super().__init__(vectors, has_bottom, config)
        self.width = vectors * self.dim
        self.layers = nn.ModuleList(CrossLayer(self.width, config.cross_rank) for _ in range(config.cross_layers))

    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        x0 = rows.flatten(1) if bottom is None else torch.cat([bottom.to(rows.dtype), rows.flatten(1)], dim=1)
        x = x0
        for layer in self.layers:
            x = layer(x, x0)
        return x

    def cost(self, number_bytes: int) -> Cost:
        total = Cost()
        for layer in linear_layers(self.layers):
            total += layer_cost(layer, number_bytes)
        for _ in self.layers:
            # Forward a product and a sum per number, backward two products and two sums; it reads x, x0 and what the
            # matrices gave and writes x', backward it reads these three with the gradient and writes theirs.
            total += Cost(flops=6 * self.width, bytes=11 * self.width * number_bytes)
        return total


INTERACTION = DcnInteraction
