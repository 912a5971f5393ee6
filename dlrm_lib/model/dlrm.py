"""The whole network."""

from __future__ import annotations

import torch
from torch import nn

from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model.embedding import EmbeddingTables
from dlrm_lib.model.interaction import INTERACTIONS
from dlrm_lib.model.mlp import mlp


class DLRM(nn.Module):
    """Numerical features through the bottom MLP, categorical ones through embeddings, both through the top MLP.

    Shapes: B rows, N numerical and M categorical columns, embeddings of length D, F = M + 1 vectors that interact.
    """

    def __init__(self, spec: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        self.tables = EmbeddingTables(spec.cardinalities, config.embedding_dim)
        self.bottom = mlp(spec.numerical, config.bottom_mlp_sizes, last_is_linear=False)
        self.interaction = INTERACTIONS[config.interaction_op](len(spec.cardinalities) + 1, config.embedding_dim)
        self.top = mlp(self.interaction.width, config.top_mlp_sizes, last_is_linear=True)
        if config.interaction_op == "dot":
            # The padding column is always zero: NVIDIA starts its weights there too.
            with torch.no_grad():
                self.top[0].weight[:, -1] = 0.0

    def forward(self, numerical: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """float32 [B, N] and int32 [B, M] → the clicks' logits, float32 [B]."""
        return self.dense(numerical, self.tables.gather(self.tables.row_ids(categorical)))

    def dense(self, numerical: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The part that autograd sees: float32 [B, N] and embedding rows [B, M, D] → logits [B]."""
        return self.top(self.interaction(self.bottom(numerical), rows)).squeeze(1)
