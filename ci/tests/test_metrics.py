"""AUC and log loss against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from dlrm_lib.metrics import auc, auc_interval, log_loss


def _case(kind: str, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.random(rows) < 0.25
    scores = rng.standard_normal(rows) + labels
    return labels, {
        "distinct": scores,
        "float32": scores.astype(np.float32),
        "float16 ties": scores.astype(np.float16),
        "few values": np.round(scores),
        "all tied": np.zeros(rows),
        "both zeros": np.where(scores > 0, 0.0, -0.0),
        "infinite": np.where(scores > 2, np.inf, scores),
    }[kind]


@pytest.mark.parametrize("kind", ["distinct", "float32", "float16 ties", "few values", "all tied", "both zeros"])
def test_auc_equals_sklearn(kind):
    labels, scores = _case(kind)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auc(labels.astype(np.float32), scores) == auc(labels, scores)


def test_auc_counts_pairs():
    labels, scores = [0, 1, 0, 1, 1], [1.0, 1.0, 2.0, 3.0, 0.0]
    right = [(p > n) + 0.5 * (p == n) for p in (1.0, 3.0, 0.0) for n in (1.0, 2.0)]
    assert auc(np.array(labels), np.array(scores)) == sum(right) / 6


def test_auc_accepts_infinities():
    labels, scores = _case("infinite")
    finite = np.where(np.isinf(scores), 1e9, scores)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, finite), abs=1e-12)


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5), np.zeros(0)])
def test_auc_of_one_class_is_undefined(labels):
    assert auc(labels, np.arange(len(labels))) is None


def test_log_loss_equals_sklearn():
    labels, scores = _case("distinct")
    p = 1 / (1 + np.exp(-scores))
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-12)
    p[:10] = [0, 1] * 5
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-12)
    assert log_loss(np.ones(3), np.ones(3)) == 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        auc(np.array([0, 1]), np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="one length"):
        auc(np.array([0, 1]), np.array([0.1]))
    with pytest.raises(ValueError, match="outside"):
        log_loss(np.array([0, 1]), np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="outside"):
        log_loss(np.array([0, 1]), np.array([0.1, 1.1]))
    with pytest.raises(ValueError, match="one length"):
        log_loss(np.array([]), np.array([]))


def test_the_interval_equals_scipys_bootstrap():
    rng = np.random.default_rng(5)
    labels = rng.random(400) < 0.3
    scores = rng.normal(size=400) + labels
    low, high = auc_interval(labels, scores, draws=2000, seed=1)
    peer = scipy.stats.bootstrap(
        (labels, scores), roc_auc_score, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=2
    ).confidence_interval
    # Two bootstraps of 2,000 samples differ by chance in a percentile by about 5 % of the width.
    assert (low, high) == pytest.approx((peer.low, peer.high), abs=0.1 * (peer.high - peer.low))
    assert low < auc(labels, scores) < high


def test_the_interval_of_one_class_is_undefined():
    assert auc_interval(np.ones(5, bool), np.arange(5.0)) is None
    # With one click, many samples hold none: they are left out.
    low, high = auc_interval(np.arange(5) == 4, np.arange(5.0))
    assert low == high == 1.0
