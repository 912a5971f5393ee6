"""Counted from a model: its parameters, and what a training step must compute and move per sample.

The latter is a lower bound to judge kernels by: each part runs once, reads what it needs once and writes its result
once. What does not grow with the batch is left out: reading and updating the MLPs' weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from dlrm_lib.model.dlrm import DLRM


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


def training_cost(model: DLRM, *, distinct: float = 1.0, number_bytes: int = 2) -> dict[str, Cost]:
    """Name of a part of the training step → its cost per sample, forward and backward, with SGD.

    Args:
        model: On any device; ``model.blueprint`` makes one that takes no memory.
        distinct: Share of the looked-up rows that differ from all others of the batch: only these must come from
            memory and go back. From 0 to 1.
        number_bytes: Of the numbers in and between the layers: 2 in bf16 and fp16. Tables stay float32.
    """
    layers = Cost()
    for first, layer in enumerate(linear_layers(model.bottom)):
        layers += layer_cost(layer, number_bytes, input_gradient=first > 0)
    for layer in linear_layers(model.top):
        layers += layer_cost(layer, number_bytes)

    columns, dim, lookups = len(model.spec.cardinalities), model.interaction.dim, model.tables.indices_per_lookup
    gathered, table = columns * dim * number_bytes, distinct * columns * lookups * dim * 4
    ids = 4 * columns * lookups
    return {
        "lookup": Cost(bytes=ids + table + gathered),
        "MLPs": layers,
        "interaction": model.interaction.cost(number_bytes),
        "embedding update": Cost(flops=2 * columns * lookups * dim, bytes=ids + gathered + 2 * table),
    }


def parameter_counts(model: DLRM) -> dict[str, int]:
    """Name of a part → its parameters: tables by their columns (none of no rows), then other parts that have any.

    Args:
        model: On any device; ``model.blueprint`` makes one that takes no memory.
    """
    dim = model.interaction.dim
    tables = zip(model.spec.columns.in_pictures[1], model.tables.table_rows, strict=True)
    counts = {name: rows * dim for name, rows in tables}
    for name, part in model.named_children():
        if own := sum(weight.numel() for weight in part.parameters()):
            counts[f"{name} MLP" if name in ("bottom", "top") else name] = own
    return counts


def linear_layers(mlp: nn.Module | None) -> list[nn.Linear]:
    """The layers of an MLP that have weights, in their order; none of no MLP."""
    return [layer for layer in mlp.modules() if isinstance(layer, nn.Linear)] if mlp else []


def layer_cost(layer: nn.Linear, number_bytes: int, *, input_gradient: bool = True) -> Cost:
    """A linear layer with its activation: forward, the gradient of its weights, and that of its input if it is needed.

    Forward it reads its input and writes its output. Backward, the gradient of the output and the input are read for
    the weights; for the input's gradient the former is read again, the latter too (where it is 0, ReLU stops the
    gradient), and the result written.
    """
    fan_in, fan_out = layer.in_features, layer.out_features
    numbers = fan_in + fan_out + fan_out + fan_in
    if input_gradient:
        numbers += fan_out + 2 * fan_in
    return Cost(flops=(6 if input_gradient else 4) * fan_in * fan_out, bytes=numbers * number_bytes)
