"""Planted wrong answers to the exercises of chapter 06, with a part of the sentence each must get."""

from __future__ import annotations

import torch

from dlrm_lib.exercises.chapter_06 import pad_bags


def filled_with_zero(bags, length, padding):
    return pad_bags(bags, length, 0)


def as_long_as_the_longest(bags, length, padding):
    return pad_bags(bags, max(map(len, bags)), padding)


def int64_ids(bags, length, padding):
    return pad_bags(bags, length, padding).long()


def filled_in_front(bags, length, padding):
    return pad_bags([[padding] * (length - len(bag)) + bag for bag in bags], length, padding)


def as_many_as_are_distinct(row_ids):
    rows, places = torch.unique(row_ids, return_inverse=True)
    return rows, torch.arange(len(rows)), places


def filled_with_row_zero(row_ids):
    distinct, places = torch.unique(row_ids, return_inverse=True)
    rows = torch.zeros(row_ids.numel(), dtype=row_ids.dtype)
    rows[: len(distinct)] = distinct
    return rows, torch.arange(row_ids.numel()).clamp(max=len(distinct) - 1), places


def source_counts_on(row_ids):
    distinct, places = torch.unique(row_ids, return_inverse=True)
    source = torch.arange(row_ids.numel())
    return distinct[source.clamp(max=len(distinct) - 1)], source, places


def flat_places(row_ids):
    distinct, places = torch.unique(row_ids, return_inverse=True)
    source = torch.arange(row_ids.numel()).clamp(max=len(distinct) - 1)
    return distinct[source], source, places.flatten()


def rows_alone(row_ids):
    return torch.unique(row_ids)


def without_source(weight, rows, source, gradient, lr, zero_row):
    step = gradient * (rows != zero_row).unsqueeze(1)
    return weight.index_copy(0, rows, weight[rows] - lr * step)


def added(weight, rows, source, gradient, lr, zero_row):
    step = gradient[source] * (rows != zero_row).unsqueeze(1)
    return weight.index_add(0, rows, step, alpha=-lr)


def moves_the_zero_row(weight, rows, source, gradient, lr, zero_row):
    return weight.index_copy(0, rows, weight[rows] - lr * gradient[source])


def distinct_rows_alone(weight, rows, source, gradient, lr, zero_row):
    real = (source == torch.arange(len(source))) & (rows != zero_row)
    return weight.index_add(0, rows[real], gradient[real], alpha=-lr)


def stops_at_the_last_row(weight, rows, source, gradient, lr, zero_row):
    weight = weight.clone()
    for row, g in zip(rows[: source[-1] + 1].tolist(), gradient, strict=False):
        if row != zero_row:
            weight[row] -= lr * g
    return weight


def uphill(weight, rows, source, gradient, lr, zero_row):
    step = gradient[source] * (rows != zero_row).unsqueeze(1)
    return weight.index_copy(0, rows, weight[rows] + lr * step)


def graphs(calls):
    """The pieces between marks, as text."""
    return [piece.split() for piece in " ".join(calls).split("mark_step")]


def every_graph(calls):
    return sum(bool(graph) for graph in graphs(calls)[:-1])


def blind_to_order(calls):
    return len({frozenset(graph) for graph in graphs(calls)[:-1] if graph})


def with_empty_ones(calls):
    return len({tuple(graph) for graph in graphs(calls)[:-1]})


def with_the_unfinished_one(calls):
    return len({tuple(graph) for graph in graphs(calls) if graph})


def changes_alone(calls):
    found = [tuple(graph) for graph in graphs(calls)[:-1] if graph]
    return sum(graph not in found[max(0, at - 2) : at] for at, graph in enumerate(found))


WRONG = {
    "6.1": (
        (filled_with_zero, "you fill up with 0"),
        (as_long_as_the_longest, "as long as the longest bag, 4"),
        (int64_ids, "yours are torch.int64"),
        (filled_in_front, "at [0, 0]: expected 3, got 9"),
    ),
    "6.2": (
        (as_many_as_are_distinct, "as many as are distinct"),
        (filled_with_row_zero, "rows, at [3]: expected 9, got 0"),
        (source_counts_on, "source, at [3]: expected 2, got 3"),
        (flat_places, "places must have the shape (2, 3), but yours has (6,)"),
        (rows_alone, "return three tensors"),
    ),
    "6.3": (
        (without_source, "row 4 has not moved"),
        (added, "row 4 moved 4 times"),
        (moves_the_zero_row, "must stay zero"),
        (distinct_rows_alone, "on a Gaudi that is a new program"),
        (stops_at_the_last_row, "took different operators"),
        (uphill, "the weight after rows [0, 2, 4"),
    ),
    "6.4": (
        (every_graph, "A graph that ran before is known."),
        (blind_to_order, "in another order"),
        (with_empty_ones, "Between two marks in a row"),
        (with_the_unfinished_one, "has not been compiled yet"),
        (changes_alone, "whatever ran between"),
    ),
}
