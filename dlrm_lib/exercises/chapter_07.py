"""Exercises of chapter 07: evenly spaced factors, the memory of tables, the best of many, a schedule that keeps up."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from dlrm_lib.exercises.mechanism import Exercise, compare


def log_spaced(first, last, count):
    """From each value to the next by the same factor."""
    factor = (last / first) ** (1 / (count - 1))
    return [first * factor**step for step in range(count)]


def _check_log_spaced(answer):
    for first, last, count in ((0.001, 10.0, 5), (3.0, 48.0, 4), (1.0, 0.01, 3), (0.02, 0.5, 2)):
        got, expected = answer(first, last, count), np.geomspace(first, last, count).tolist()
        what = f"{count} values from {first:g} to {last:g}"
        if isinstance(got, list | np.ndarray) and len(got) == count > 2:
            if np.allclose(got, np.linspace(first, last, count)):
                return f"{what}: yours have equal differences, {got[1] - got[0]:g}. Equal factors are asked for."
            if np.allclose(got, [first * (last / first) ** (step / count) for step in range(count)]):
                return f"{what}: yours end at {got[-1]:g}. There are {count - 1} factors between, not {count}."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


def table_bytes(cardinalities, dim):
    """A vector of four-byte numbers per id; of each of these numbers Adam keeps two means."""
    tables = 4 * dim * sum(cardinalities)
    return tables, 2 * tables


def _check_table_bytes(answer):
    for cardinalities, dim in (([5, 3], 4), ([1000, 20, 7], 16)):
        tables = torch.nn.ModuleList(torch.nn.Embedding(rows, dim) for rows in cardinalities)
        optimizer = torch.optim.Adam(tables.parameters())
        sum(table.weight.sum() for table in tables).backward()
        optimizer.step()
        kept = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        expected = sum(table.weight.nbytes for table in tables), sum(tensor.nbytes for tensor in kept)
        got, what = answer(list(cardinalities), dim), f"(tables, Adam) for cardinalities {cardinalities} and dim {dim}"
        if isinstance(got, tuple) and len(got) == 2:
            if got[0] * 4 == expected[0]:
                return f"{what}: {got[0]} is how many numbers there are. A float32 takes 4 bytes."
            if got[0] == expected[0] == got[1]:
                return (
                    f"{what}: Adam keeps two numbers of each weight, a mean of its gradients and one of their squares."
                )
            if got[0] == expected[0] and got[1] * dim == expected[1]:
                return f"{what}: one pair for each row is not enough: Adam keeps a pair for each of its {dim} numbers."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


def best_of(results, k):
    """The i-th smallest of n is the highest of k draws if all are among the first i, but not all among those before."""
    n = len(results)
    return sum(x * ((i / n) ** k - ((i - 1) / n) ** k) for i, x in enumerate(sorted(results), start=1))


def _as_they_come(results: list[float], k: int) -> float:
    """The same sum over results that nobody has sorted."""
    n = len(results)
    return sum(x * (i**k - (i - 1) ** k) for i, x in enumerate(results, start=1)) / n**k


def _check_best_of(answer):
    for results, k in (([0.75, 0.7, 0.8], 2), ([0.3, 0.1, 0.7, 0.9], 3), ([0.2, 0.2, 0.6], 2), ([0.4, 0.6], 1)):
        draws = list(itertools.product(results, repeat=k))
        got, expected = answer(list(results), k), sum(map(max, draws)) / len(draws)
        what = f"the mean of the best of {k} draws from {results}"
        if isinstance(got, int | float) and k > 1:
            if math.isclose(got, max(results)):
                return f"{what}: {got:g} is the best of all. Few draws often miss it: expected {expected:.6g}."
            if math.isclose(got, sum(results) / len(results)):
                return f"{what}: {got:g} is the mean of one draw. The best of {k} is higher: expected {expected:.6g}."
            apart = [max(some) for some in itertools.combinations(results, k)]
            if math.isclose(got, sum(apart) / len(apart)):
                return f"{what}: the same result may be drawn again, yours never is: expected {expected:.6g}."
            if math.isclose(got, _as_they_come(results, k)) and not math.isclose(got, expected):
                return f"{what}: expected {expected:.6g}, got {got:.6g}, as if the results stood in ascending order."
            if abs(got - expected) < 0.02 and not math.isclose(got, expected, rel_tol=1e-5):
                return f"{what}: {got:.6g} comes close, but the exact mean is {expected:.6g}. No draws are needed."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


def same_shares(rows, old_batch, new_batch, steps):
    """A pass has as many steps as batches, the last of which need not be full."""
    longer = math.ceil(rows / new_batch) / math.ceil(rows / old_batch)
    return [round(number * longer) for number in steps]


def _check_same_shares(answer):
    for rows, old, new, steps in (
        (1024, 64, 16, [4, 6, 10]),
        (1024, 64, 256, [4, 8, 4]),
        (1000, 600, 100, [1, 2, 0]),
    ):
        # So many steps make up the first pass of the old training, and the new one has so many.
        per_pass = len(range(0, rows, old)), len(range(0, rows, new))
        expected = [round(number / per_pass[0] * per_pass[1]) for number in steps]
        got, what = answer(rows, old, new, list(steps)), f"{steps} of {rows} rows, batch_size {old} → {new}"
        if isinstance(got, list) and len(got) == len(steps) and all(isinstance(number, int | float) for number in got):
            if got == steps != expected:
                return (
                    f"{what}: yours stay as they are, but a pass has {per_pass[1]} steps now instead of {per_pass[0]}."
                )
            if np.allclose(got, [number * new / old for number in steps]):
                return f"{what}: smaller batches make more steps, not fewer. Expected {expected}, got {got}."
            if rows % old and np.allclose(got, [round(number * old / new) for number in steps], atol=0.5):
                return (
                    f"{what}: the last batch of a pass is a step too, though not full. Expected {expected}, got {got}."
                )
            if not all(isinstance(number, int) for number in got):
                return f"{what}: steps are whole numbers; `round` makes them. Expected {expected}, got {got}."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


EXERCISES = (
    Exercise(
        id="7.1",
        title="equal factors",
        hint="From the first value to the last there are count - 1 equal factors, and their product is last / first. "
        "Which root of it is one of them?",
        solution=log_spaced,
        checks=(_check_log_spaced,),
    ),
    Exercise(
        id="7.2",
        title="what tables take",
        hint="One row of dim float32 numbers for each id of each column. Adam keeps a running mean of every number's "
        "gradient, and another of its square.",
        solution=table_bytes,
        checks=(_check_table_bytes,),
    ),
    Exercise(
        id="7.3",
        title="the best of k",
        hint="Sort the results. The best of k draws is at most the i-th smallest of n with probability (i / n)**k. "
        "With which probability is it the i-th itself?",
        solution=best_of,
        checks=(_check_best_of,),
    ),
    Exercise(
        id="7.4",
        title="a schedule that keeps its shares",
        hint="How many steps has a pass with batches of one size, and of the other? `math.ceil` counts the batch that "
        "is not full. All numbers of steps grow by the same ratio.",
        solution=same_shares,
        checks=(_check_same_shares,),
    ),
)
