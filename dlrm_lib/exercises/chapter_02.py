"""Exercises of chapter 02: the logarithm of the integers and the ids of the tokens.

The trusted functions need Spark's packages, so they are imported when an answer is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dlrm_lib.exercises.mechanism import Exercise, compare

# 2.1


def encode_numbers(values):
    """A list of integers and None."""
    filled = np.array([0 if value is None else value for value in values], np.float64)
    return np.log(np.maximum(filled + 2, 1)).astype(np.float16)


def _encoded(values: Sequence[int | None]) -> np.ndarray:
    from dlrm_lib.preprocess.numbers import encode_integers

    integer = np.array([[0 if value is None else value for value in values]], np.int64)
    missing = np.array([[value is None for value in values]])
    return encode_integers(integer, missing, "log_x_plus_2")[0]


def _present(answer: Callable) -> str | None:
    values = [0, 1, 5, 1000, 2_000_000]
    got, expected = answer(values), _encoded(values)
    if isinstance(got, np.ndarray) and got.shape == expected.shape and not np.allclose(got, expected, atol=0.01):
        if np.isinf(got[-1]):
            return "2,000,000 is too large for float16, which ends at 65,504: take the logarithm before you round."
        counts = np.array(values, np.float64)
        if np.allclose(got, np.log1p(counts), atol=0.01):
            return "you add 1 before the logarithm: the rule adds 2."
        if np.allclose(got, np.log(counts + 3), atol=0.01):
            return "you add 3, as NVIDIA's released script does: the rule here adds 2."
        for base, name in ((10, "base 10"), (2, "base 2")):
            if np.allclose(got, np.log(counts + 2) / np.log(base), atol=0.01):
                return f"your logarithm has {name}: the rule takes the natural one, np.log."
    return compare(got, expected, f"the encoded values of {values}", tolerance=2e-3)


def _missing(answer: Callable) -> str | None:
    got, expected = answer([7, None]), _encoded([7, None])
    if np.shape(got) == (2,) and got[1] == 0:
        return (
            f"a missing value becomes 0 before the logarithm, not after it: expected log(0 + 2) = {expected[1]:.4g}, "
            "got 0."
        )
    if np.shape(got) == (2,) and np.isnan(got[1]):
        return "a missing value comes out as NaN: replace it by 0 first."
    return compare(got, expected, "the encoded values of [7, None]", tolerance=2e-3)


def _negative(answer: Callable) -> str | None:
    values = [-1, -2, -3, -1000]
    with np.errstate(all="ignore"):  # the logarithm of a negative number is what the check is about
        got = answer(values)
    if np.shape(got) == (4,) and not np.isfinite(np.asarray(got, np.float64)).all():
        place = int(np.flatnonzero(~np.isfinite(np.asarray(got, np.float64)))[0])
        return f"{values[place]} becomes {got[place]}: after adding 2, raise whatever is below 1 to 1."
    return compare(got, _encoded(values), f"the encoded values of {values}", tolerance=2e-3)


def _half_precision(answer: Callable) -> str | None:
    values = list(range(0, 5000, 7))
    got, expected = answer(values), _encoded(values)
    if isinstance(got, np.ndarray) and got.dtype != np.float16:
        return f"the result must be float16, 2 bytes a number: yours is {got.dtype}."
    if isinstance(got, np.ndarray) and got.shape == expected.shape and (differs := got != expected).any():
        place = int(np.flatnonzero(differs)[0])
        return (
            f"{values[place]} is rounded differently: expected {float(expected[place]):.6g}, got "
            f"{float(got[place]):.6g}. Compute in float64 and round to float16 once, at the end."
        )
    return compare(got, expected, "the encoded values of 0, 7, 14, …")


# 2.2


def give_ids(counts, limit):
    """``counts`` is a dictionary from token to how often it was seen; so is the result, from token to id."""
    kept = [token for token, count in counts.items() if count >= limit]
    kept.sort(key=lambda token: (-counts[token], token.encode()))
    ids = dict.fromkeys(counts, 0)
    for id, token in enumerate(kept, start=1):
        ids[token] = id
    return ids


def _ranked(counts: dict[str, int], limit: int) -> dict[str, int]:
    from dlrm_lib.preprocess.tokens import Tokens
    from dlrm_lib.preprocess.vocabulary import rank

    tokens = Tokens.of([token.encode() for token in counts])
    id_of, _ = rank(tokens, np.array([*counts.values()], np.int64), limit)
    return dict(zip(counts, id_of.tolist(), strict=True))


def _by_count(answer: Callable) -> str | None:
    counts = {"5e21": 40, "a0ff": 90, "77b2": 20}
    got, expected = answer(counts, 1), _ranked(counts, 1)
    if got == {token: id - 1 for token, id in expected.items()}:
        return "your ids start at 0: id 0 is for rare and missing values, the others start at 1."
    if got == {"77b2": 1, "5e21": 2, "a0ff": 3}:
        return "your ids rise with the count: the most frequent value gets id 1."
    if got == {"5e21": 1, "a0ff": 2, "77b2": 3}:
        return "your ids follow the order of the dictionary: sort the values by their counts first."
    return compare(got, expected, f"the ids of {counts} with limit 1")


def _rare(answer: Callable) -> str | None:
    counts = {"68fd": 500, "b1e0": 15, "0c3a": 14}
    got, expected = answer(counts, 15), _ranked(counts, 15)
    if isinstance(got, dict) and got.get("b1e0") == 0:
        return "a value seen exactly as often as the limit is kept: only those seen fewer times get id 0."
    if isinstance(got, dict) and "0c3a" not in got:
        return "a rare value is missing from your result: it gets id 0."
    if isinstance(got, dict) and got.get("0c3a") != 0:
        return f"a value seen 14 times with limit 15 must get id 0, got {got['0c3a']}."
    return compare(got, expected, f"the ids of {counts} with limit 15")


def _ties(answer: Callable) -> str | None:
    counts = {"b": 30, "é": 30, "B": 30, "a": 30, "z": 31}
    got, expected = answer(counts, 1), _ranked(counts, 1)
    if got == {"z": 1, "b": 2, "é": 3, "B": 4, "a": 5}:
        return "values with equal counts keep the order in which they came: sort them by their UTF-8 bytes."
    if isinstance(got, dict) and got.get("z") == 1 and got != expected and sorted(got.values()) == [1, 2, 3, 4, 5]:
        order = sorted(got, key=lambda value: got[value])[1:]
        return f"equal counts are ordered by UTF-8 bytes, B a b é: yours are in the order {' '.join(order)}."
    return compare(got, expected, f"the ids of {counts} with limit 1")


EXERCISES = (
    Exercise(
        id="2.1",
        title="integers to logarithms",
        hint="Four steps in this order: None becomes 0, add 2, raise what is below 1 to 1, take np.log. Compute in "
        "float64 and end with .astype(np.float16).",
        solution=encode_numbers,
        checks=(_present, _missing, _negative, _half_precision),
    ),
    Exercise(
        id="2.2",
        title="tokens to ids",
        hint="Keep the tokens seen at least `limit` times, sort them by the key (-count, token.encode()) and number "
        "them from 1. All the others get 0.",
        solution=give_ids,
        checks=(_by_count, _rare, _ties),
    ),
)
