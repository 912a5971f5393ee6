"""Wrong answers to the exercises of chapter 02, each with a part of the sentence it must get."""

from __future__ import annotations

import numpy as np


def numbers(values, add=2.0, least=1.0, missing=0, dtype=np.float16, log=np.log):
    filled = np.array([missing if value is None else value for value in values], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return log(np.maximum(filled + add, least)).astype(dtype)


def adds_one(values):
    return numbers(values, add=1)


def adds_three(values):
    return numbers(values, add=3)


def base_ten(values):
    return numbers(values, log=np.log10)


def base_two(values):
    return numbers(values, log=np.log2)


def missing_after_the_logarithm(values):
    return np.where([value is None for value in values], 0, numbers(values)).astype(np.float16)


def missing_as_nan(values):
    return numbers(values, missing=np.nan)


def not_clamped(values):
    return numbers(values, least=-np.inf)


def single_precision(values):
    return numbers(values, dtype=np.float32)


def rounded_before_the_logarithm(values):
    with np.errstate(over="ignore"):
        filled = np.array([0 if value is None else value for value in values], np.float64).astype(np.float16)
        return np.log(np.maximum(filled + 2, 1))


def rounded_twice(values):
    return np.round(numbers(values, dtype=np.float64), 3).astype(np.float16)


def a_list(values):
    return numbers(values).tolist()


def ids(counts, limit, first=1, key=lambda token: token.encode(), sign=-1, rare=0):
    kept = sorted((token for token in counts if counts[token] >= limit), key=key)
    kept.sort(key=lambda token: sign * counts[token])
    found = {} if rare is None else dict.fromkeys(counts, rare)
    return found | {token: id for id, token in enumerate(kept, start=first)}


def from_zero(counts, limit):
    return ids(counts, limit, first=0)


def rising(counts, limit):
    return ids(counts, limit, sign=1)


def unsorted(counts, limit):
    return ids(counts, limit, key=lambda token: 0, sign=0)


def limit_excluded(counts, limit):
    return ids(counts, limit + 1)


def rare_left_out(counts, limit):
    return ids(counts, limit, rare=None)


def rare_as_minus_one(counts, limit):
    return ids(counts, limit, rare=-1)


def ties_as_they_came(counts, limit):
    return ids(counts, limit, key=lambda token: 0)


def ties_without_case(counts, limit):
    return ids(counts, limit, key=str.casefold)


WRONG = {
    "2.1": [
        (adds_one, "the rule adds 2"),
        (adds_three, "as NVIDIA's released script does"),
        (base_ten, "base 10"),
        (base_two, "base 2"),
        (missing_after_the_logarithm, "before the logarithm, not after it"),
        (missing_as_nan, "comes out as NaN"),
        (not_clamped, "raise whatever is below 1 to 1"),
        (single_precision, "yours is float32"),
        (rounded_before_the_logarithm, "take the logarithm before you round"),
        (rounded_twice, "round to float16 once"),
        (a_list, "must be of type numpy.ndarray"),
    ],
    "2.2": [
        (from_zero, "your ids start at 0"),
        (rising, "the most frequent value gets id 1"),
        (unsorted, "sort the values by their counts first"),
        (limit_excluded, "only those seen fewer times"),
        (rare_left_out, "a rare value is missing from your result"),
        (rare_as_minus_one, "must get id 0, got -1"),
        (ties_as_they_came, "keep the order in which they came"),
        (ties_without_case, "equal counts are ordered by UTF-8 bytes"),
    ],
}
