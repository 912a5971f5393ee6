"""Exercises of chapter 03, Building DLRM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.exercises.mechanism import Exercise, compare
from dlrm_lib.model.embedding import EmbeddingTables
from dlrm_lib.model.interactions.dot import DotInteraction
from dlrm_lib.optim import OPTIMIZERS

# 3.1


def row_ids(categorical: torch.Tensor, cardinalities: Sequence[int]) -> torch.Tensor:
    starts = [0]
    for rows in cardinalities[:-1]:
        starts.append(starts[-1] + rows)
    return categorical + torch.tensor(starts, dtype=torch.int64)


def _three_tables(answer: Callable) -> str | None:
    cardinalities = (4, 3, 5)
    ids = torch.tensor([[0, 0, 0], [3, 2, 4]], dtype=torch.int32)
    expected = EmbeddingTables(cardinalities, 1).row_ids(ids)
    got = answer(ids, cardinalities)
    if isinstance(got, torch.Tensor) and got.shape == expected.shape:
        first, last = got.tolist()
        if got.equal(ids.to(got.dtype)):
            return "your ids are unchanged: every column still points into the first table."
        if first == [4, 7, 12]:
            return f"your offsets say where each table ends: id 0 of column 0 is row 0, got {first[0]}."
        if first[1:] == [4, 3]:
            return f"an offset counts the rows of all tables before: column 2 begins at row 4 + 3 = 7, got {first[2]}."
        if first == [1, 5, 8]:
            return f"rows count from 0: id 0 of column 0 is row 0, got {first[0]}."
        if max(last) >= 12:
            return f"the buffer has 12 rows, 0 to 11: got row {int(max(last))}."
    return compare(got, expected, "the row ids of tables of 4, 3 and 5 rows")


def _huge_tables(answer: Callable) -> str | None:
    # More rows than 31 bits count. Only the arithmetic is tried: nothing of this size is built.
    cardinalities = (2_000_000_000, 2_000_000_000, 3)
    got = answer(torch.tensor([[5, 5, 2]], dtype=torch.int32), cardinalities)
    expected = torch.tensor([[5, 2_000_000_005, 4_000_000_002]])
    if isinstance(got, torch.Tensor) and (got.dtype == torch.int32 or (got < 0).any()):
        return "your row ids overflow 32 bits: with 4,000,000,003 rows they need int64."
    return compare(got, expected, "the row ids of tables with 4,000,000,003 rows together")


# 3.2


def dot_interaction(bottom: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    vectors = torch.cat([bottom.unsqueeze(1), rows], dim=1)
    products = vectors @ vectors.transpose(1, 2)
    row, column = torch.tril_indices(vectors.shape[1], vectors.shape[1], offset=-1)
    padding = torch.zeros(len(bottom), 1)
    return torch.cat([bottom, products[:, row, column], padding], dim=1)


def _expected(bottom: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    dim = bottom.shape[1]
    config = ModelConfig(embedding_dim=dim, bottom_mlp_sizes=(dim,))
    return DotInteraction(1 + rows.shape[1], True, config)(bottom, rows)


def _width(answer: Callable) -> str | None:
    batch, columns, dim = 3, 26, 16
    bottom, rows = _random(batch, dim, seed=1), _random(batch, columns, dim, seed=2)
    expected = _expected(bottom, rows)
    got = answer(bottom, rows)
    vectors = columns + 1
    pairs = vectors * (vectors - 1) // 2
    if isinstance(got, torch.Tensor) and got.shape == expected.shape:
        return None  # whether its values are right is the next check
    if isinstance(got, torch.Tensor) and got.ndim == 2 and len(got) == batch:
        count = f"expected F·(F−1)/2 = {pairs} columns, got"
        for fixed in (0, 1, dim, dim + 1):
            others = got.shape[1] - fixed
            if others == pairs + vectors:
                return f"your diagonal is included: {count} {others}."
            if others == vectors**2:
                return f"you keep the whole matrix, each pair twice: {count} {others}."
            if others == columns * (columns - 1) // 2:
                return f"the bottom MLP's vector must meet the others too: {count} {others}."
        if got.shape[1] == expected.shape[1] - 1:
            return f"the padding column is missing: expected {expected.shape[1]} columns, got {got.shape[1]}."
        if got.shape[1] == pairs + 1:
            return f"the bottom MLP's {dim} values are missing in front of the {pairs} products."
    return compare(got, expected, "the interaction's output")


def _order(answer: Callable) -> str | None:
    # Two rows: the second has every vector of the first twice as long, so its products are four times as large.
    bottom, rows = torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 1.0], [1.0, 3.0], [5.0, 2.0]]])
    bottom, rows = torch.cat([bottom, 2 * bottom]), torch.cat([rows, 2 * rows])
    expected = _expected(bottom, rows)
    got = answer(bottom, rows)
    if isinstance(got, torch.Tensor) and got.shape == expected.shape and not torch.allclose(got, expected):
        if torch.allclose(got, expected.roll(1, dims=1)):
            return "the padding column belongs at the end, behind the products."
        if torch.allclose(got.sort().values, expected.sort().values):
            return (
                f"the values are right, but not in order: expected {_numbers(expected[0])} (the bottom MLP's vector, "
                f"the lower triangle row by row, the padding), got {_numbers(got[0])}."
            )
    return compare(got, expected, "the interaction of (1, 2) with (3, 1), (1, 3) and (5, 2)")


# 3.3


def adagrad_update(weight, squares, row_ids, gradient, lr):
    rows, position = torch.unique(row_ids, return_inverse=True)
    total = torch.zeros(len(rows), gradient.shape[1])
    total.index_add_(0, position, gradient)  # one sum per row, however often the row occurs
    squares[rows] += total**2
    weight[rows] -= lr * total / (squares[rows].sqrt() + 1e-10)
    return weight, squares


def _two_updates(answer: Callable) -> str | None:
    row_ids = torch.tensor([4, 0, 2])
    start = _random(6, 3, seed=3)
    expected, weight, squares = start.clone(), start, torch.zeros_like(start)
    optimizer = OPTIMIZERS["adagrad"](expected)
    for number, gradient in enumerate((_random(3, 3, seed=4), _random(3, 3, seed=5)), start=1):
        result = answer(weight, squares, row_ids, gradient, 0.1)
        if not isinstance(result, tuple) or len(result) != 2:
            return "return two tensors: `return weight, squares`."
        optimizer.update_rows(row_ids, gradient, 0.1)
        if number == 1 and torch.allclose(result[0] - start, start - expected):
            return "your update goes uphill: subtract the step from the weights."
        if isinstance(result[1], torch.Tensor) and result[1].equal(squares):
            return "your squares never grow: add the squared gradient to them, and return them for the next update."
        weight, squares = result
        if wrong := compare(weight, expected, f"the table after update {number}"):
            return wrong
    return None


def _duplicates(answer: Callable) -> str | None:
    row_ids, gradient = torch.tensor([2, 5, 2, 2]), _random(4, 3, seed=6)
    start = _random(6, 3, seed=3)
    expected = start.clone()
    OPTIMIZERS["adagrad"](expected).update_rows(row_ids, gradient, 0.1)
    weight, squares = answer(start, torch.zeros_like(start), row_ids, gradient, 0.1)
    ours = gradient[row_ids == 2]
    if torch.allclose(squares[2], (ours**2).sum(0)):
        return "row 2 occurs three times: sum its gradients first, then square the sum; you sum the squares."
    if any(torch.allclose(squares[2], one**2) for one in ours):
        return "row 2 occurs three times in the batch, but only one of its gradients arrives: sum them."
    if torch.allclose(squares[2], ours.mean(0) ** 2):
        return "row 2 occurs three times in the batch: sum its gradients; you take their mean."
    return compare(weight, expected, "the table when row 2 occurs three times in the batch")


# 3.4


def sum_bags(weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    nothing = torch.zeros(1, weight.shape[1])
    return torch.cat([weight, nothing])[ids].sum(dim=1)


def _bags(answer: Callable) -> str | None:
    tables = EmbeddingTables([4], 3, indices_per_lookup=3)
    tables.weight[:-1] = weight = _random(4, 3, seed=7)
    ids = torch.tensor([[2, 0, 1], [3, 1, 4], [1, 1, 4], [4, 4, 4]])
    expected = tables.gather(tables.row_ids(ids.unsqueeze(1))).squeeze(1)
    got = answer(weight, ids)
    if isinstance(got, torch.Tensor) and got.shape == expected.shape:
        if torch.allclose(got[0], expected[0] / 3):
            return "you take the mean of the vectors of a bag: the bag (2, 0, 1) stands for their sum."
        if torch.allclose(got[1], expected[1] + weight[3]):
            return "id 4 fills up and must add nothing: you add the table's last row for it."
        if torch.allclose(got[1], expected[1] + weight[0]):
            return "id 4 fills up and must add nothing: you add the row of id 0 for it."
        if torch.allclose(got[2], expected[2] / 2):
            return "id 1 is twice in the bag (1, 1, 4): its vector counts twice."
    return compare(got, expected, "the sums of bags in a table of 4 rows")


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _numbers(values: torch.Tensor) -> str:
    return ", ".join(f"{value:g}" for value in values)


EXERCISES = (
    Exercise(
        id="3.1",
        title="Rows of one buffer",
        hint="Table j begins where all tables before it end: sum their rows, and start with 0. Mind the integer type.",
        solution=row_ids,
        checks=(_three_tables, _huge_tables),
    ),
    Exercise(
        id="3.2",
        title="Dot interaction",
        hint="Put the F vectors into one tensor [B, F, D] and multiply it by its own transpose. "
        "torch.tril_indices(F, F, offset=-1) lists the places to keep; one column of zeros follows them.",
        solution=dot_interaction,
        checks=(_width, _order),
    ),
    Exercise(
        id="3.3",
        title="Adagrad on the rows of a batch",
        hint="torch.unique(row_ids, return_inverse=True) gives each row once, and for each gradient the place of its "
        "row among them: index_add_ the gradients there before you square anything.",
        solution=adagrad_update,
        checks=(_two_updates, _duplicates),
    ),
    Exercise(
        id="3.4",
        title="Bags of ids",
        hint="One more row of zeros below the table makes the id that fills up an id like any other. "
        "Indexing with ids [B, L] then gives vectors [B, L, D]; along which axis are they summed?",
        solution=sum_bags,
        checks=(_bags,),
    ),
)
