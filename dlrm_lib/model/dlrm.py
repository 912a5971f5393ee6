"""The whole network."""

from __future__ import annotations

import torch
from torch import nn

from dlrm_lib.config import ModelConfig
from dlrm_lib.devices import Device, Kernels, ModelShape
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model.cost import vectors_met
from dlrm_lib.model.embedding import EmbeddingTables
from dlrm_lib.model.interaction import CatInteraction, DotInteraction
from dlrm_lib.model.missing import MissingFlags
from dlrm_lib.model.mlp import mlp
from dlrm_lib.model.numbers import NumberVectors
from dlrm_lib.model.standardise import Standardise


class DLRM(nn.Module):
    """Numerical features through the bottom MLP, categorical ones through embeddings, both through the top MLP.

    Shapes: B rows, N numerical and M categorical columns, embeddings of length D, bags of L ids. Data without numbers
    have no bottom MLP, data without categories no tables.

    Attributes:
        spec: The columns that it was made for.
        linear: The first number of each embedding, of a bag's sum or of a number's vector also counts by itself.

    Raises:
        InputError: the data have no column at all.
    """

    def __init__(self, spec: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        self.spec, self.linear = spec, config.linear
        has_bottom, dim = spec.numerical > 0, config.embedding_dim
        vectors = vectors_met(spec, config)
        if not vectors:
            raise InputError("The data set has no column to learn from.", remedy="Encode rows with features.")
        self.tables = EmbeddingTables(
            spec.cardinalities,
            dim,
            indices_per_lookup=config.num_indices_per_lookup,
            hash_indices=config.hash_indices,
            max_table_size=config.max_table_size,
            init=config.embedding_init,
        )
        self.standardise = Standardise(spec.numerical) if has_bottom and config.standardise else nn.Identity()
        self.missing = MissingFlags(spec.missing_number) if has_bottom and config.flag_missing else None
        numbers = 2 * spec.numerical if self.missing else spec.numerical
        self.numbers = None
        if has_bottom and config.embed_numbers:
            self.numbers = NumberVectors(spec.numerical, dim, config.embedding_init)
        self.bottom = mlp(numbers, config.bottom_mlp_sizes, last_is_linear=False) if has_bottom else None
        if config.interaction_op == "dot":
            self.interaction = DotInteraction(
                vectors, dim, has_bottom=has_bottom, self_interaction=config.self_interaction
            )
        else:
            self.interaction = CatInteraction(vectors, dim)
        self.top = mlp(self.interaction.width, config.top_mlp_sizes, last_is_linear=True)
        if config.interaction_op == "dot":
            # The padding column is always zero: NVIDIA starts its weights there too.
            with torch.no_grad():
                self.top[0].weight[:, -1] = 0.0
        # In a tuple, or the module would take compiled layers for more parameters.
        self._for_training = self._for_inference = (self.bottom, self.top)

    def use_kernels(self, device: Device, execution: str) -> Kernels | None:
        """Lets the model run on code made for ``device`` from now on, if there is any; returns that code."""
        dot = self.interaction if isinstance(self.interaction, DotInteraction) else None
        shape = ModelShape(
            dim=self.tables.weight.shape[1],
            vectors=dot.vectors if dot else 1,
            self_interaction=bool(dot and dot.self_interaction),
            sizes=tuple(self.tables.sizes.tolist()),
        )
        kernels = device.kernels(execution, shape)
        self.tables.kernel = kernels and kernels.lookup
        if dot:
            dot.kernel = kernels and kernels.interact
        self.tables.sums_bags = device.sums_bags
        self._for_training = tuple(mlp and device.compiled(mlp, execution) for mlp in (self.bottom, self.top))
        self._for_inference = tuple(mlp and device.for_inference(mlp, execution) for mlp in (self.bottom, self.top))
        return kernels

    def forward(self, numerical: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """float32 [B, N] and int32 [B, M] or [B, M, L] → the clicks' logits, float32 [B]."""
        return self.dense(numerical, self.tables(categorical))

    def dense(self, numerical: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The part that autograd sees: float32 [B, N] and embedding rows [B, M, D] → logits [B]."""
        bottom_mlp, top_mlp = self._for_training if self.training else self._for_inference
        numbers = self.standardise(numerical)
        if self.missing:
            numbers = torch.cat([numbers, self.missing(numerical)], 1)
        bottom = bottom_mlp and bottom_mlp(numbers)
        if self.numbers:
            rows = torch.cat([rows, self.numbers(numerical).to(rows.dtype)], 1)
        logit = top_mlp(self.interaction(bottom, rows)).squeeze(1)
        return logit + rows.shape[2] ** 0.5 * rows[..., 0].sum(1) if self.linear else logit
