"""The best reachable scores: the ideal click probability for what a model may see, and how good it is.

Who sees the raw row scores it with the click probability p itself. Who sees the encoded row scores it with
E[p | encoded row]: some cells hide which of several outcomes was drawn, namely missing, rare and unseen values, which
share id 0, and missing integers, which look like zeros where the numeric rule makes them alike. As columns are
independent given the day, a hidden cell is distributed like its column on that day, restricted to the outcomes that
look the same. The logit is then a sum of independent terms: its mean and variance are computed exactly, and the
logistic function is averaged over a normal distribution with these two moments (a test compares this with plain
resampling of the hidden cells). That integers are finally stored as the float16 of a logarithm is left out: effects
are smooth, so this hides nothing worth counting.
"""

from __future__ import annotations

import numpy as np

from dlrm_lib import metrics
from dlrm_lib.numeric_rules import NUMERIC_RULES, LogRule
from dlrm_lib.synthetic.columns import CATEGORICALS, INTEGERS, MISSING
from dlrm_lib.synthetic.signal import PAIRS, DayTables, probability

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)


def visible(frequent: np.ndarray, column: int, day: int) -> np.ndarray:
    """Which ranks of a categorical column have an id of their own on a day: bool [values + 1], never rank 0.

    Args:
        frequent: Which identifiers of the column occur often enough in the training rows, bool.
    """
    ranks = np.arange(CATEGORICALS[column].values + 1, dtype=np.uint32)
    seen = frequent[CATEGORICALS[column].identify(ranks, day)]
    seen[0] = False
    return seen


class EncodedView:
    """The click probability on one day for someone who sees the encoded row only."""

    def __init__(
        self,
        tables: DayTables,
        chances: tuple[np.ndarray, ...],
        visible: list[np.ndarray],
        rule: LogRule = NUMERIC_RULES["log_x_plus_2"],
    ) -> None:
        """
        Args:
            tables: Of the day.
            chances: Probability of each outcome, per column.
            visible: Which ranks have an id of their own on that day, per categorical column.
            rule: How integers are encoded, which decides whether those that are missing look like others.
        """
        self._bias = tables.bias
        self._hidden, self._mean, self._covariance = [], [], []
        for column, (effect, chance) in enumerate(zip(tables.effects, chances, strict=True)):
            terms = np.concatenate([effect[np.newaxis], tables.vectors.get(column, np.empty((0, len(effect))))])
            if column < len(INTEGERS):
                x = tables.integers[column]
                number = np.log(np.maximum(x.astype(np.float64) + rule.shift, 1)).astype(np.float16)
                hidden = (x == MISSING) | (number == np.float16(rule.missing_number))
            else:
                hidden = ~visible[column - len(INTEGERS)]
            # The term of a column is its effect and, in a pair, its vector: E and cov over the hidden outcomes.
            weight = chance * hidden
            weight /= max(weight.sum(), np.finfo(float).tiny)
            weighted = terms * weight
            mean = weighted.sum(1)
            covariance = np.einsum("iv,jv->ij", weighted, terms) - np.outer(mean, mean)
            np.copyto(terms, mean[:, np.newaxis], where=hidden)
            self._hidden.append(hidden)
            self._mean.append(terms)
            self._covariance.append(covariance)

    def moments(self, outcomes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the logit given the encoded row, float64 [rows] each; ``outcomes`` are those drawn."""
        mean = np.full(len(outcomes[0]), self._bias)
        variance = np.zeros(len(outcomes[0]))
        for column, outcome in enumerate(outcomes):
            mean += self._mean[column][0][outcome]
            if self._covariance[column][0, 0] > 1e-12:  # Else its hidden cells all mean the same.
                variance += self._covariance[column][0, 0] * self._hidden[column][outcome]
        for pair in PAIRS:
            i, j = pair.first, pair.second
            u, v = self._mean[i][1:, outcomes[i]], self._mean[j][1:, outcomes[j]]
            mean += (u * v).sum(0)
            for column, other in ((i, v), (j, u)):
                rows = np.flatnonzero(self._hidden[column][outcomes[column]])
                covariance, other = self._covariance[column], other[:, rows]
                variance[rows] += 2 * np.einsum("r,rn->n", covariance[0, 1:], other) + np.einsum(
                    "rn,rs,sn->n", other, covariance[1:, 1:], other
                )
            both = self._hidden[i][outcomes[i]] & self._hidden[j][outcomes[j]]
            variance += np.sum(self._covariance[i][1:, 1:] * self._covariance[j][1:, 1:]) * both
        return mean, np.maximum(variance, 0)

    def probability(self, outcomes: list[np.ndarray]) -> np.ndarray:
        """E[p | encoded row], float64 [rows]."""
        mean, variance = self.moments(outcomes)
        deviation, total = np.sqrt(variance), np.zeros(len(mean))
        for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
            total += weight * probability(mean + deviation * node)
        return total


def quality(label: np.ndarray, chance: np.ndarray, score: np.ndarray) -> dict[str, float | None]:
    """How good a score is, on the labels drawn and on average over all labels that could have been drawn.

    Args:
        label: bool [rows].
        chance: Each row's true click probability.
        score: The click probability that is judged.

    Returns:
        ``auc``, ``log_loss`` (nats), ``expected_auc`` (a ratio of expectations), ``expected_log_loss``; an AUC is None
        where it is undefined.
    """
    return {
        "auc": metrics.auc(label, score),
        "log_loss": metrics.log_loss(label, score),
        "expected_auc": expected_auc(chance, score),
        "expected_log_loss": float(-(chance * np.log(score) + (1 - chance) * np.log1p(-score)).mean()),
    }


def expected_auc(chance: np.ndarray, score: np.ndarray) -> float | None:
    """AUC of a score when each row is a click with its own probability: expected right pairs / expected pairs.

    None for fewer than two rows, where there is no pair.
    """
    order = np.argsort(score)
    score, click, no_click = score[order], chance[order], 1 - chance[order]
    below = np.concatenate([[0.0], np.cumsum(no_click)])
    start, end = np.searchsorted(score, score, "left"), np.searchsorted(score, score, "right")
    # A row is tied with itself, but cannot be a click and none at once.
    alone = (click * no_click).sum()
    pairs = click.sum() * no_click.sum() - alone
    if len(score) < 2 or pairs <= 0:
        return None
    return float(((click * (below[start] + below[end])).sum() - alone) / (2 * pairs))
