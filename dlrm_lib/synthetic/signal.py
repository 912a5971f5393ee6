"""The planted signal: the click probability of a row, from effects of single columns and of pairs of columns.

    logit = BIAS + drift(day) + sum over columns c of effect_c(v_c) + sum over PAIRS (i, j) of <u_i(v_i), u_j(v_j)>

Effects and vectors have mean zero under the distribution of their column, and columns are drawn independently given the
day. So a pair holds nothing that single columns could tell, which keeps logistic regression honest, and the variances
of all terms add up. (Independence is the deliberate simplification that makes the best reachable AUC computable.)
Effects do not change with time, so the past predicts the future; only the base rate and the size of the integers drift.

Can it be learned? This was settled by a bound, before any model was trained on it. A row carries p(1 - p), on average
0.14, of Fisher information about its logit. A value seen n times, whose term has variance s² spread over R dimensions,
therefore leaves about s² / (1 + 0.14 n s² / R) of it unexplained. So amplitudes fall with the square root of the rank,
and most pairs join columns of few values. What is left unexplained, summed over all values, in squared logits (a test
repeats the sum):

    training rows    categorical columns (0.77 planted)    pairs (0.73 planted)
        875,000                  0.03                              0.02
         45,000                  0.11                              0.12

Near an AUC of 0.80, 0.01 squared logits are worth about 0.001: at 875,000 rows about 0.005 is beyond any learner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm_lib.numeric_rules import NUMERIC_RULES
from dlrm_lib.synthetic.columns import CATEGORICALS, INTEGER_BINS, INTEGERS, MISSING

BIAS = -1.45
DRIFT = 0.22  # Logits by which the base rate swings, with a period of 7 days.
HEAD = 32  # Ranks over which the amplitude of a column's effects is nearly constant.
CLIP = 3.0  # Standard deviations at which the effect of an integer saturates.
# Standard deviations in logits, or sizes of either sign:
VALUE_EFFECT = 0.15  # what the values of a categorical column tell;
MISSING_EFFECT = 0.35  # that a token is missing;
SLOPE = 0.20  # one standard deviation of an integer's logarithm;
MISSING_INTEGER_EFFECT = 0.32  # that an integer is missing, which the encoding cannot tell from zero.


@dataclass(frozen=True)
class Pair:
    """Two columns whose joint effect is a dot product in ``rank`` dimensions with ``variance`` in squared logits.

    Columns are numbered as in a row, integers first, from 0.
    """

    first: int
    second: int
    rank: int
    variance: float


def _c(number: int) -> int:
    """Column number of the categorical column that Criteo calls C``number``."""
    return len(INTEGERS) + number - 1


def _i(number: int) -> int:
    """Column number of the integer column that Criteo calls I``number``."""
    return number - 1


# A column is in one pair at most.
PAIRS = (
    Pair(_c(9), _c(5), 2, 0.12),
    Pair(_c(6), _c(17), 3, 0.12),
    Pair(_c(14), _c(23), 4, 0.12),
    Pair(_c(20), _c(2), 2, 0.10),
    Pair(_c(25), _c(8), 2, 0.10),
    Pair(_c(1), _c(11), 2, 0.05),
    Pair(_i(2), _c(22), 1, 0.06),
    Pair(_i(5), _c(19), 1, 0.06),
)


@dataclass(frozen=True)
class DayTables:
    """What the outcomes of every column mean on one day: the bins of an integer column, the ranks of a categorical one.

    Attributes:
        bias: Logit of a row without any effect.
        integers: Value of each bin, int32 [INTEGER_BINS] per integer column.
        effects: float32 [outcomes] per column.
        vectors: Column → float32 [its pair's rank, outcomes].
    """

    bias: float
    integers: tuple[np.ndarray, ...]
    effects: tuple[np.ndarray, ...]
    vectors: dict[int, np.ndarray]

    def logit(self, outcomes: list[np.ndarray]) -> np.ndarray:
        """Logit of the click probability, float32 [rows], from the outcomes of every column, [rows] each."""
        total = np.full(len(outcomes[0]), self.bias, np.float32)
        for effect, outcome in zip(self.effects, outcomes, strict=True):
            total += effect[outcome]
        # One dimension at a time, in plain products and sums: the same bits on every machine.
        for pair in PAIRS:
            for u, v in zip(self.vectors[pair.first], self.vectors[pair.second], strict=True):
                total += u[outcomes[pair.first]] * v[outcomes[pair.second]]
        return total


def probability(logit: np.ndarray) -> np.ndarray:
    """The logistic function, in float64."""
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


class Signal:
    """The planted coefficients, which depend on ``data_seed`` alone.

    Attributes:
        chances: Probability of each outcome, float64 [outcomes] per column.
    """

    def __init__(self, data_seed: int) -> None:
        # Sums are plain ones, not BLAS products, whose last bits depend on the machine and its threads.
        # The spawn key sets this stream apart from those of the rows, seeded by [data_seed, day, chunk].
        rng = np.random.default_rng(np.random.SeedSequence(data_seed, spawn_key=(1,)))
        self._phases = rng.uniform(0, 2 * np.pi, len(INTEGERS))
        self._slopes = SLOPE * rng.choice([-1.0, 1.0], len(INTEGERS))
        self._missing = MISSING_INTEGER_EFFECT * rng.choice([-1.0, 1.0], len(INTEGERS))
        self._norms = [_norm(column.bins(0, phase)) for column, phase in zip(INTEGERS, self._phases, strict=True)]
        even = np.full(INTEGER_BINS, 1 / INTEGER_BINS)
        self.chances = (even,) * len(INTEGERS) + tuple(column.probabilities() for column in CATEGORICALS)

        self._effects = []
        for categorical, chance in zip(CATEGORICALS, self.chances[len(INTEGERS) :], strict=True):
            effect = _coefficients(rng, categorical.values, 1)[0]
            effect[0] = 0
            effect[1:] -= (chance[1:] * effect[1:]).sum() / chance[1:].sum()
            effect *= VALUE_EFFECT / math.sqrt((chance * effect**2).sum())
            effect[0] = MISSING_EFFECT * rng.choice([-1.0, 1.0])
            self._effects.append((effect - (chance * effect).sum()).astype(np.float32))

        self._vectors, self._scales = {}, {}
        for pair in PAIRS:
            spread = np.ones((pair.rank, pair.rank))
            for column in (pair.first, pair.second):
                if column < len(INTEGERS):
                    vectors = self._standard(column, INTEGERS[column].bins(0, self._phases[column]))[np.newaxis]
                else:
                    vectors = _coefficients(rng, CATEGORICALS[column - len(INTEGERS)].values, pair.rank)
                vectors -= (vectors * self.chances[column]).sum(1, keepdims=True)
                spread *= np.einsum("rv,sv,v->rs", vectors, vectors, self.chances[column])
                self._vectors[column] = vectors
            # E <u, v>² is the sum of the products of their covariances: both have mean zero and are independent.
            scale = (pair.variance / spread.sum()) ** 0.25
            for column in (pair.first, pair.second):
                self._scales[column] = scale
                self._vectors[column] = (scale * self._vectors[column]).astype(np.float32)

    def on(self, day: int) -> DayTables:
        """The tables of one day."""
        integers, effects, vectors = [], [], dict(self._vectors)
        for i, column in enumerate(INTEGERS):
            values = column.bins(day, self._phases[i])
            z, missing = self._standard(i, values), values == MISSING
            effect = self._slopes[i] * z + self._missing[i] * (missing - missing.mean())
            integers.append(values)
            effects.append(effect.astype(np.float32))
            if i in vectors:
                vectors[i] = (self._scales[i] * z).astype(np.float32)[np.newaxis]
        bias = BIAS + DRIFT * math.sin(2 * math.pi * day / 7)
        return DayTables(bias, tuple(integers), (*effects, *self._effects), vectors)

    def _standard(self, i: int, values: np.ndarray) -> np.ndarray:
        """Logarithms of an integer column, with mean 0 and variance 1 on day 0; 0 where missing."""
        mean, deviation, clipped_mean, clipped_deviation = self._norms[i]
        z = np.clip((_logarithm(values) - mean) / deviation, -CLIP, CLIP)
        return np.where(values == MISSING, 0, (z - clipped_mean) / clipped_deviation)


def _norm(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean and standard deviation of the logarithms that are there, before and after clipping."""
    x = _logarithm(values[values != MISSING])
    z = np.clip((x - x.mean()) / x.std(), -CLIP, CLIP)
    return x.mean(), x.std(), z.mean(), z.std()


def _logarithm(values: np.ndarray) -> np.ndarray:
    """log(x + 2) as the encoding takes it: x below 0 counts as -1, a missing one as 0."""
    shift = float(NUMERIC_RULES["log_x_plus_2"].shift)
    return np.log(np.where(values == MISSING, shift, np.maximum(values + shift, 1.0)))


def _coefficients(rng: np.random.Generator, values: int, dimensions: int) -> np.ndarray:
    """Normal numbers whose amplitude falls smoothly with the rank, float64 [dimensions, values + 1]."""
    return rng.standard_normal((dimensions, values + 1)) / np.sqrt(1 + np.arange(values + 1) / HEAD)
