"""Exercises of chapter 06: bags of one length, rows that are named once, their update, and counting programs."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dlrm_lib.backends.gaudi.coalesce import distinct_rows
from dlrm_lib.exercises.mechanism import Exercise, compare


def pad_bags(bags, length, padding):
    """The shape follows from the number of bags and `length`, never from the ids."""
    padded = torch.full((len(bags), length), padding, dtype=torch.int32)
    for row, bag in enumerate(bags):
        padded[row, : len(bag)] = torch.tensor(bag, dtype=torch.int32)
    return padded


def _check_bags(answer):
    for bags, length, padding in (([[3, 7], [7], [1, 3, 5, 8], []], 6, 9), ([[0, 4]], 2, 5), ([[], []], 3, 2)):
        got, expected = answer(bags, length, padding), pad_bags(bags, length, padding)
        what = f"the padded bags of {bags} with length {length} and padding {padding}"
        longest = max(map(len, bags))
        if isinstance(got, torch.Tensor) and got.shape == (len(bags), longest) != expected.shape:
            return f"{what}: yours are as long as the longest bag, {longest}; in the next batch that is another shape."
        if (wrong := compare(got, expected, what)) is not None:
            if isinstance(got, torch.Tensor) and got.shape == expected.shape and (got[expected == padding] == 0).all():
                return f"{what}: you fill up with 0, which is an id with a row of its own. Use {padding}."
            return wrong
        if got.dtype != torch.int32:
            return f"{what}: yours are {got.dtype}; on the way to a Gaudi ids are int32, at half the bytes."
    return None


def coalesce(row_ids):
    """Sorting finds the distinct rows; the array has room for the case that all are distinct."""
    distinct, places = torch.unique(row_ids, return_inverse=True)
    source = torch.arange(row_ids.numel()).clamp(max=len(distinct) - 1)
    return distinct[source], source, places


def _check_coalesced(answer):
    generator = torch.Generator().manual_seed(61)
    batches = [torch.tensor([[3, 7, 9], [7, 9, 9]]), torch.randint(30, (6, 4), generator=generator)]
    for row_ids in [*batches, torch.full((2, 2), 4), torch.arange(6).view(2, 3).flip(1)]:
        got = answer(row_ids)
        expected = tuple(map(torch.from_numpy, distinct_rows(row_ids.numpy())))
        what = f"for row_ids {row_ids.tolist()}"
        if not isinstance(got, tuple) or len(got) != 3 or not all(isinstance(part, torch.Tensor) for part in got):
            return "return three tensors: rows, source and places."
        distinct = len(expected[0].unique())
        if len(got[0]) == distinct < row_ids.numel():
            return f"{what}, your rows are {distinct}, as many as are distinct. Make them {row_ids.numel()} always."
        for name, ours, theirs in zip(("rows", "source", "places"), expected, got, strict=True):
            if (wrong := compare(theirs, ours, f"{what}, {name}")) is not None:
                return wrong
    return None


def update_rows(weight, rows, source, gradient, lr, zero_row):
    """Each mention of a row writes the same value, so that it does not matter which one comes last."""
    step = gradient[source] * (rows != zero_row).unsqueeze(1)
    return weight.index_copy(0, rows, weight[rows] - lr * step)


def _updated(row_ids: list[int], seed: int) -> tuple[torch.Tensor, ...]:
    """weight, rows, source and a gradient, and the weight after the update; the zero row is 6."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, 2, generator=generator)
    weight[6] = 0
    rows, source, _ = (torch.from_numpy(part).long() for part in distinct_rows(np.array(row_ids)))
    distinct = len(set(row_ids))
    gradient = torch.randn(len(row_ids), 2, generator=generator)
    gradient[distinct:] = 0  # autograd finds the later mentions unused
    expected = weight.clone()
    for row, g in zip(rows[:distinct].tolist(), gradient, strict=False):
        expected[row] -= 0.5 * g * (row != 6)
    return weight, rows, source, gradient, expected


def _check_updated(answer):
    for seed, row_ids in enumerate(([0, 2, 2, 4, 0, 4], [1, 6, 6, 3, 6, 1])):
        weight, rows, source, gradient, expected = _updated(row_ids, seed)
        got = answer(weight, rows, source, gradient, 0.5, 6)
        what = f"the weight after rows {rows.tolist()}"
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            last = rows[-1]
            if last == 6 and not torch.equal(got[6], weight[6]):
                return f"{what}: row 6 stands for no id and must stay zero; yours is {got[6].tolist()}."
            if torch.equal(got[last], weight[last]) and not torch.allclose(got[last], expected[last]):
                return (
                    f"{what}: row {last} has not moved. Only its first mention has a gradient, and a later one, "
                    "with zeros, was written over it. `source` says where the gradient is."
                )
            times = torch.nan_to_num((weight - got)[last] / (weight - expected)[last])
            if torch.allclose(times, times.round()) and (times > 1.5).all():
                return f"{what}: row {last} moved {times[0]:.0f} times, once for each mention. Write it, do not add."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


class _Shapes(TorchDispatchMode):
    """Notes each operator with the shapes that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [a for a in tree_leaves((args, kwargs or {})) if isinstance(a, torch.Tensor)]
        self.calls.append((function.overloadpacket.__name__, *(list(tensor.shape) for tensor in tensors)))
        return function(*args, **(kwargs or {}))


def _check_shapes(answer):
    recorded = []
    for row_ids in ([0, 2, 2, 4, 0, 4], [1, 5, 2, 4, 0, 3]):
        weight, rows, source, gradient, _ = _updated(row_ids, 3)
        with _Shapes() as shapes:
            answer(weight, rows, source, gradient, 0.5, 6)
        recorded.append(shapes.calls)
    names = [[name for name, *_ in calls] for calls in recorded]
    if names[0] != names[1]:
        return "your numbers are right, but two batches took different operators: two programs on a Gaudi."
    for first, second in zip(*recorded, strict=True):
        if first != second:
            return (
                f"your numbers are right, but {second[0]} took shapes {first[1:]} in one batch and {second[1:]} in the "
                "next: on a Gaudi that is a new program."
            )
    return None


def count_compilations(calls):
    """A graph is what lies between two marks; one with no operator is none, and an unfinished one has not run."""
    known, graph = set(), []
    for name in calls:
        if name != "mark_step":
            graph.append(name)
            continue
        if graph:
            known.add(tuple(graph))
        graph = []
    return len(known)


def _check_count(answer):
    marked = {"F": "forward", "B": "backward", "U": "update", "|": "mark_step"}
    for text, why in (
        ("FBU|", ""),
        ("FB|U|FB|U|FB|U|", "A graph that ran before is known."),
        ("FB|BF|", "The same operators in another order are another program."),
        ("FB||U||FB||", "Between two marks in a row there is nothing to compile."),
        ("FB|FBU", "What follows the last mark has not been compiled yet."),
        ("FBU|FB|U|FBU|", "A graph that ran before is known, whatever ran between."),
        ("", ""),
    ):
        calls = [marked[letter] for letter in text]
        if (wrong := compare(answer(calls), count_compilations(calls), f"programs compiled for {calls}")) is not None:
            return f"{wrong} {why}".strip()
    return None


EXERCISES = (
    Exercise(
        id="6.1",
        title="bags of one length",
        hint="Make the whole tensor first, with `torch.full` and `dtype=torch.int32`; then write each bag into the "
        "front of its row.",
        solution=pad_bags,
        checks=(_check_bags,),
    ),
    Exercise(
        id="6.2",
        title="rows that are named once",
        hint="`torch.unique(..., return_inverse=True)` gives two of the three, but for what follows the distinct rows. "
        "source counts 0, 1, 2, … and stops at the last distinct row; rows are the distinct ones at those places.",
        solution=coalesce,
        checks=(_check_coalesced,),
    ),
    Exercise(
        id="6.3",
        title="an update with no new shape",
        hint="Give every mention of a row the gradient of its first one, and the zero row none. Then work out the new "
        "values of all mentions, and `index_copy` writes them.",
        solution=update_rows,
        checks=(_check_updated, _check_shapes),
    ),
    Exercise(
        id="6.4",
        title="counting programs",
        hint="Collect names until a mark comes; a tuple of them can be an element of a set.",
        solution=count_compilations,
        checks=(_check_count,),
    ),
)
