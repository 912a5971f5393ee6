"""Planted wrong answers to the exercises of chapter 07, with a part of the sentence each must get."""

from __future__ import annotations

import math
import random


def equal_differences(first, last, count):
    return [first + (last - first) * step / (count - 1) for step in range(count)]


def one_factor_too_many(first, last, count):
    factor = (last / first) ** (1 / count)
    return [first * factor**step for step in range(count)]


def exponents_only(first, last, count):
    low, high = math.log10(first), math.log10(last)
    return [low + (high - low) * step / (count - 1) for step in range(count)]


def always_by_ten(first, last, count):
    return [first * 10.0**step for step in range(count)]


def numbers_not_bytes(cardinalities, dim):
    return dim * sum(cardinalities), 2 * dim * sum(cardinalities)


def one_mean_only(cardinalities, dim):
    tables = 4 * dim * sum(cardinalities)
    return tables, tables


def one_pair_per_row(cardinalities, dim):
    return 4 * dim * sum(cardinalities), 2 * 4 * sum(cardinalities)


def tables_in_the_sum(cardinalities, dim):
    return 4 * dim * sum(cardinalities), 3 * 4 * dim * sum(cardinalities)


def best_of_all(results, k):
    return max(results)


def mean_of_all(results, k):
    return sum(results) / len(results)


def never_twice(results, k):
    n = len(results)
    below = [math.comb(i, k) for i in range(n + 1)]
    return sum(x * (below[i] - below[i - 1]) for i, x in enumerate(sorted(results), start=1)) / below[n]


def by_drawing(results, k):
    draw = random.Random(0)
    return sum(max(draw.choices(results, k=k)) for _ in range(3000)) / 3000


def unsorted(results, k):
    n = len(results)
    return sum(x * ((i / n) ** k - ((i - 1) / n) ** k) for i, x in enumerate(results, start=1))


def left_alone(rows, old_batch, new_batch, steps):
    return steps


def the_wrong_way(rows, old_batch, new_batch, steps):
    return [number * new_batch / old_batch for number in steps]


def full_batches_only(rows, old_batch, new_batch, steps):
    return [round(number * old_batch / new_batch) for number in steps]


def broken_steps(rows, old_batch, new_batch, steps):
    longer = math.ceil(rows / new_batch) / math.ceil(rows / old_batch)
    return [number * longer for number in steps]


WRONG = {
    "7.1": (
        (equal_differences, "have equal differences"),
        (one_factor_too_many, "4 factors between, not 5"),
        (exponents_only, "expected 0.001, got -3"),
        (always_by_ten, "4 values from 3 to 48, at [1]"),
    ),
    "7.2": (
        (numbers_not_bytes, "takes 4 bytes"),
        (one_mean_only, "two numbers of each weight"),
        (one_pair_per_row, "a pair for each of its 4 numbers"),
        (tables_in_the_sum, "part 1: expected 256, got 384"),
    ),
    "7.3": (
        (best_of_all, "the best of all"),
        (mean_of_all, "the mean of one draw"),
        (never_twice, "may be drawn again"),
        (by_drawing, "comes close"),
        (unsorted, "as if the results stood in ascending order"),
    ),
    "7.4": (
        (left_alone, "a pass has 64 steps now instead of 16"),
        (the_wrong_way, "more steps, not fewer"),
        (full_batches_only, "though not full"),
        (broken_steps, "whole numbers"),
    ),
}
