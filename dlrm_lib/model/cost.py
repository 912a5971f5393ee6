"""What a training step must compute and move, per sample, counted from the sizes of a network.

It is a lower bound to judge kernels by: each part runs once, reads what it needs once and writes its result once. What
does not grow with the batch is left out: reading and updating the MLPs' weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Work per sample.

    Attributes:
        flops: Floating-point operations; a multiplication with an addition counts two.
        bytes: Read from and written to memory.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(flops=self.flops + other.flops, bytes=self.bytes + other.bytes)

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The least time: computing and moving overlap, so the slower of the two decides (the roofline model).

        Source: Williams, Waterman and Patterson 2009, https://doi.org/10.1145/1498765.1498785.
        """
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


def vectors_met(spec: FeatureSpec, config: ModelConfig) -> int:
    """How many vectors take part in the interaction: the columns', the bottom MLP's output, perhaps each number's."""
    return len(spec.cardinalities) + (spec.numerical > 0) + spec.numerical * config.embed_numbers


def interaction_width(spec: FeatureSpec, config: ModelConfig) -> int:
    """Columns that the top MLP takes, as the layers in ``model.interaction`` have them."""
    has_bottom, dim, vectors = spec.numerical > 0, config.embedding_dim, vectors_met(spec, config)
    if config.interaction_op == "cat":
        return vectors * dim
    return has_bottom * dim + vectors * (vectors - 1) // 2 + config.self_interaction * vectors + 1


def bottom_width(spec: FeatureSpec, config: ModelConfig) -> int:
    """Columns that the bottom MLP takes: the numbers, and perhaps a flag for each."""
    return spec.numerical * (2 if config.flag_missing else 1)


def training_cost(
    spec: FeatureSpec, config: ModelConfig, *, distinct: float = 1.0, number_bytes: int = 2
) -> dict[str, Cost]:
    """Name of a part of the training step → its cost per sample, forward and backward, with SGD.

    Args:
        spec: The columns.
        config: The layers.
        distinct: Share of the looked-up rows that differ from all others of the batch: only these must come from
            memory and go back. From 0 to 1.
        number_bytes: Of the numbers in and between the layers: 2 in bf16 and fp16. Tables stay float32.
    """
    has_bottom, dim, lookups = spec.numerical > 0, config.embedding_dim, config.num_indices_per_lookup
    columns = len(spec.cardinalities)
    vectors, width = vectors_met(spec, config), interaction_width(spec, config)
    bottom = (bottom_width(spec, config), *config.bottom_mlp_sizes) if has_bottom else ()
    layers = Cost()
    for first, (fan_in, fan_out) in enumerate(itertools.pairwise(bottom)):
        layers += _layer(fan_in, fan_out, input_gradient=first > 0, number_bytes=number_bytes)
    for fan_in, fan_out in itertools.pairwise((width, *config.top_mlp_sizes)):
        layers += _layer(fan_in, fan_out, input_gradient=True, number_bytes=number_bytes)

    gathered, table = columns * dim * number_bytes, distinct * columns * lookups * dim * 4
    ids = 4 * columns * lookups
    interaction = Cost()
    if config.interaction_op == "dot":
        # Forward the square of products X·Xᵀ, backward (G + Gᵀ)·X. The vectors are read both times, their gradients
        # written; the output is written, and its gradient read.
        numbers = 3 * vectors * dim + 2 * width
        interaction = Cost(flops=4 * vectors**2 * dim, bytes=numbers * number_bytes)
    return {
        "lookup": Cost(bytes=ids + table + gathered),
        "MLPs": layers,
        "interaction": interaction,
        "embedding update": Cost(flops=2 * columns * lookups * dim, bytes=ids + gathered + 2 * table),
    }


def _layer(fan_in: int, fan_out: int, *, input_gradient: bool, number_bytes: int) -> Cost:
    """A linear layer with its activation: forward, the gradient of its weights, and that of its input if it is needed.

    Forward it reads its input and writes its output. Backward, the gradient of the output and the input are read for
    the weights; for the input's gradient the former is read again, the latter too (where it is 0, ReLU stops the
    gradient), and the result written.
    """
    numbers = fan_in + fan_out + fan_out + fan_in
    if input_gradient:
        numbers += fan_out + 2 * fan_in
    return Cost(flops=(6 if input_gradient else 4) * fan_in * fan_out, bytes=numbers * number_bytes)
