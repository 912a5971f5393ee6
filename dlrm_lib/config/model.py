"""Settings of the network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dlrm_lib.config.data import FEW_ROWS
from dlrm_lib.errors import InputError
from dlrm_lib.settings import Section, as_text, option

_FEW = f"none: where there are fewer than {FEW_ROWS:,} training rows"


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The network. Layer sizes exclude the input, which follows from the data and the interaction."""

    embedding_dim: int = option(16, "length of each embedding vector", at_least=1, usual=(4, 8, 16, 32, 64, 128))
    bottom_mlp_sizes: tuple[int, ...] = option(
        (64, 32, 16), "layers for numerical features; the last is embedding_dim", at_least=1
    )
    top_mlp_sizes: tuple[int, ...] = option((64, 32, 1), "layers after the interaction; the last is 1", at_least=1)
    standardise: bool = option(
        False, "shift and scale each number to mean 0 and deviation 1, as measured on the first training rows"
    )
    flag_missing: bool = option(
        False,
        "an input more for each number: 1 where it is missing, else 0 (log_x_plus_2 cannot tell missing from zero, so "
        "there both are flagged)",
    )
    embedding_init: float | None = option(
        None,
        "embeddings start as random numbers up to this size; none: one over the root of their table's rows",
        at_least=0.0,
    )
    embed_numbers: bool | None = option(
        False,
        "a vector more for each number, between those of the whole numbers beside it, that meets all others: its "
        f"effect need not be smooth; {_FEW}",
    )
    linear: bool | None = option(
        False,
        "the first number of each vector, times the root of their length, is added to the logit, as logistic "
        f"regression adds a weight for each value; {_FEW}",
    )
    interaction_op: str = option(
        "dot",
        "how features meet: pairwise dot products, concatenation, or the cross layers of DCN-v2",
        choices=("dot", "cat", "dcn"),
    )
    cross_layers: int = option(
        3,
        "with interaction_op dcn, cross layers one after the other",
        at_least=1,
        usual=(1, 2, 3, 4, 5),
        needs={"interaction_op": ("dcn",)},
    )
    cross_rank: int = option(
        64,
        "with interaction_op dcn, columns that each cross layer's matrix is squeezed through",
        at_least=1,
        usual=(8, 16, 32, 64, 128, 256, 512),
        needs={"interaction_op": ("dcn",)},
    )
    self_interaction: bool = option(
        False, "dot products of each vector with itself as well", needs={"interaction_op": ("dot",)}
    )
    num_indices_per_lookup: int = option(
        1, "most ids per categorical feature and row, their embeddings summed", at_least=1
    )
    hash_indices: bool = option(False, "ids modulo the table's size, so that every id has a row")
    max_table_size: int | None = option(
        None, "most rows of an embedding table, needs hash_indices; none: one for every id", at_least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_table_size is not None and not self.hash_indices:
            raise InputError(
                "--max_table_size needs --hash_indices: some ids would have no row of their own.",
                found=f"max_table_size {self.max_table_size}",
                remedy="Add --hash_indices, or leave --max_table_size out.",
                fields=("hash_indices", "max_table_size"),
            )
        if self.bottom_mlp_sizes[-1] != self.embedding_dim:
            raise InputError(
                "The bottom MLP must end in a vector as long as an embedding.",
                found=f"bottom_mlp_sizes {as_text(self.bottom_mlp_sizes)}, embedding_dim {self.embedding_dim}",
                remedy=f"End bottom_mlp_sizes in {self.embedding_dim}, or change embedding_dim.",
                fields=("bottom_mlp_sizes", "embedding_dim"),
            )
        if self.top_mlp_sizes[-1] != 1:
            raise InputError(
                "The top MLP must end in one number, the click's logit.",
                found=f"top_mlp_sizes {as_text(self.top_mlp_sizes)}",
                remedy="End top_mlp_sizes in 1.",
                fields=("top_mlp_sizes",),
            )

    def for_rows(self, rows: int) -> ModelConfig:
        """These settings for so many training rows: what helps few of them is on there, where it was left open."""
        few = rows < FEW_ROWS
        return dataclasses.replace(
            self,
            embed_numbers=few if self.embed_numbers is None else self.embed_numbers,
            linear=few if self.linear is None else self.linear,
        )
