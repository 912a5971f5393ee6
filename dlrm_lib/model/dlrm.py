"""The whole network: features → embeddings → interaction → top."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from dlrm_lib.config import ModelConfig
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model.cost import linear_layers
from dlrm_lib.model.embedding import EmbeddingTables
from dlrm_lib.model.interactions import interaction
from dlrm_lib.model.layers import MissingFlags, NumberEmbedding, Standardise, mlp
from dlrm_lib.negatives import logit_shift


class Parts(NamedTuple):
    """The three large functions of a forward pass; a backend may hand in others that compute the same.

    Attributes:
        bottom: [B, numbers] → [B, D]; None for data without numbers.
        interaction: The bottom MLP's output [B, D] or None, and the other vectors [B, F - 1 or F, D] → [B, width].
        top: [B, width] → [B, 1].
    """

    bottom: Callable[[torch.Tensor], torch.Tensor] | None
    interaction: Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor]
    top: Callable[[torch.Tensor], torch.Tensor]


class DLRM(nn.Module):
    """Numerical features through the bottom MLP, categorical ones through embeddings, both through the top MLP.

    Shapes: B samples, N numerical and M categorical columns, embeddings of length D, bags of L ids. Data without
    numbers have no bottom MLP, data without categories no tables.

    Attributes:
        spec: The columns that it was made for.
        linear: The first number of each embedding, of a bag's sum or of a number's vector also counts by itself.
        negative_rate: Share of the non-clicks that were among its training rows, with all clicks (see ``negatives``).

    Raises:
        InputError: the data have no column at all.
        ValueError: a setting is left open.

    Example:
        >>> from dlrm_lib.config import ModelConfig
        >>> model = DLRM(FeatureSpec(numerical=2, cardinalities=(5, 9)), ModelConfig())
        >>> ids = torch.tensor([[4, 0], [1, 8], [0, 0]], dtype=torch.int32)
        >>> model(torch.zeros(3, 2), ids).shape
        torch.Size([3])
    """

    def __init__(self, spec: FeatureSpec, config: ModelConfig, *, negative_rate: float = 1.0) -> None:
        super().__init__()
        if config.embed_numbers is None or config.linear is None:
            raise ValueError("settings of the model are left open: ModelConfig.for_rows settles them")
        self.spec, self.linear, self.negative_rate = spec, config.linear, negative_rate
        has_bottom, dim = spec.numerical > 0, config.embedding_dim
        vectors = len(spec.cardinalities) + has_bottom + spec.numerical * config.embed_numbers
        if not vectors:
            raise InputError("The data set has no column to learn from.", remedy="Encode rows with features.")
        self.tables = EmbeddingTables(
            spec.cardinalities,
            dim,
            indices_per_lookup=max(config.num_indices_per_lookup, *spec.columns.bags, 1),
            hash_indices=config.hash_indices,
            max_table_size=config.max_table_size,
            init=config.embedding_init,
        )
        self.standardise = Standardise(spec.numerical) if has_bottom and config.standardise else nn.Identity()
        self.missing = MissingFlags(spec.missing_numbers) if has_bottom and config.flag_missing else None
        self.numbers = None
        if has_bottom and config.embed_numbers:
            spans = [rule.span for rule in spec.numeric_rules]
            self.numbers = NumberEmbedding(spans, dim, config.embedding_init)
        inputs = 2 * spec.numerical if self.missing else spec.numerical
        self.bottom = mlp(inputs, config.bottom_mlp_sizes, last_is_linear=False) if has_bottom else None
        self.interaction = interaction(vectors, has_bottom, config)
        self.top = mlp(self.interaction.width, config.top_mlp_sizes, last_is_linear=True)
        with torch.no_grad():
            # Padding is always zero: NVIDIA starts its weights there too.
            linear_layers(self.top)[0].weight[:, self.interaction.width - self.interaction.padding :] = 0.0

    @property
    def parts(self) -> Parts:
        """Its own three functions."""
        return Parts(self.bottom, self.interaction, self.top)

    def forward(self, numerical: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """float32 [B, N] and int32 [B, M] or [B, M, L] → the clicks' logits among all rows, float32 [B]."""
        return self.among_all(self.dense(numerical, self.tables(categorical)))

    def dense(self, numerical: torch.Tensor, rows: torch.Tensor, parts: Parts | None = None) -> torch.Tensor:
        """The part that autograd sees: float32 [B, N] and embedding rows [B, M, D] → logits among training rows [B].

        ``parts`` compute it in place of the model's own.
        """
        parts = parts or self.parts
        numbers = self.standardise(numerical)
        if self.missing:
            numbers = torch.cat([numbers, self.missing(numerical)], 1)
        bottom = parts.bottom and parts.bottom(numbers)
        if self.numbers:
            rows = torch.cat([rows, self.numbers(numerical).to(rows.dtype)], 1)
        logit = parts.top(parts.interaction(bottom, rows)).squeeze(1)
        return logit + rows.shape[2] ** 0.5 * rows[..., 0].sum(1) if self.linear else logit

    def among_all(self, logit: torch.Tensor) -> torch.Tensor:
        """Logits [B] as ``dense`` gives them → what is answered: the same where all rows were trained on."""
        return logit if self.negative_rate == 1 else logit + logit_shift(self.negative_rate)

    @torch.no_grad()
    def train_among(self, negative_rate: float) -> None:
        """Makes it ready to go on with training rows of another rate: its last bias moves, and no answer changes."""
        if negative_rate != self.negative_rate:
            last = linear_layers(self.top)[-1]
            last.bias.add_(logit_shift(self.negative_rate) - logit_shift(negative_rate))
            self.negative_rate = negative_rate


def blueprint(spec: FeatureSpec, config: ModelConfig) -> DLRM:
    """The model on torch's device ``meta``: all shapes and no numbers, to count what it takes before it is built.

    Example:
        >>> from dlrm_lib.config import Config
        >>> from dlrm_lib.features import CRITEO_TERABYTE
        >>> model = blueprint(CRITEO_TERABYTE, Config.from_preset("criteo_terabyte").model)
        >>> f"{model.tables.weight.nbytes / 1e9:.1f} GB of tables"
        '16.7 GB of tables'
    """
    with torch.device("meta"):
        return DLRM(spec, config)
