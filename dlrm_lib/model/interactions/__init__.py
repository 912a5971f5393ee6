"""How the vectors of a sample meet. Each way is a file here, by its name in ``ModelConfig.interaction_op``.

F vectors of length D take part: one per categorical column, before them the bottom MLP's output, if the data have
numbers at all, and behind them perhaps one for each number.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod

import torch
from torch import nn

from dlrm_lib.config import ModelConfig
from dlrm_lib.model.cost import Cost


class Interaction(nn.Module):
    """From F vectors to what the top MLP takes.

    Attributes:
        name: As in ``ModelConfig.interaction_op``.
        vectors: F.
        dim: D.
        has_bottom: The first of them is the bottom MLP's output.
        width: Columns of the output.
        products: Where in the output there are dot products of two vectors.
        padding: Columns of zeros at the end of the output.
    """

    name: str
    width: int
    products: slice = slice(0, 0)
    padding: int = 0

    def __init__(self, vectors: int, has_bottom: bool, config: ModelConfig) -> None:
        super().__init__()
        self.vectors, self.dim, self.has_bottom = vectors, config.embedding_dim, has_bottom

    @abstractmethod
    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        """The bottom MLP's output [B, D] or None, and the other vectors [B, F - 1 or F, D] → [B, width]."""

    @abstractmethod
    def cost(self, number_bytes: int) -> Cost:
        """What it must compute and move per sample, forward and backward, with numbers of so many bytes."""


def interaction(vectors: int, has_bottom: bool, config: ModelConfig) -> Interaction:
    """The interaction that ``config`` names, for so many vectors."""
    module = importlib.import_module(f"{__name__}.{config.interaction_op}")
    return module.INTERACTION(vectors, has_bottom, config)
