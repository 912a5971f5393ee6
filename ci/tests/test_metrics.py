"""AUC, its streaming form, and log loss, against scikit-learn and counted pairs."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import expit
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from dlrm_lib.metrics import (
    LogitTotals,
    NotANumber,
    StreamingAuc,
    auc,
    auc_interval,
    entropy,
    log_loss,
    normalised_entropy,
)
from dlrm_lib.metrics.on_device import DeviceScores

NEXT = np.finfo(np.float64).eps  # from 1.0 to the next float64


def _case(kind: str, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.random(rows) < 0.25
    scores = rng.standard_normal(rows) + labels
    return labels, {
        "distinct": scores,
        "float32": scores.astype(np.float32),
        "float16 ties": scores.astype(np.float16),
        "few values": np.round(scores),
        "integers": np.round(4 * scores).astype(np.int64),
        "all tied": np.zeros(rows),
        "both zeros": np.where(scores > 0, 0.0, -0.0),
        "last digit": 1 + NEXT * np.round(scores),
        "hardly normal": (1e-45 * np.round(3 * scores)).astype(np.float32),
        "huge": (1e38 * np.clip(scores, -3, 3)).astype(np.float32),
        "infinite": np.where(abs(scores) > 1, np.copysign(np.inf, scores), scores),
    }[kind]


KINDS = ("distinct", "float32", "float16 ties", "few values", "integers", "all tied", "both zeros", "last digit")
KINDS += ("hardly normal", "huge", "infinite")


def _pairs(labels, scores) -> float:
    """The definition: every click beside every non-click."""
    p, n = scores[labels][:, None], scores[~labels][None, :]
    return float((p > n).mean() + 0.5 * (p == n).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_auc_equals_sklearn_and_counted_pairs(kind):
    labels, scores = _case(kind)
    ranks = np.unique(scores, return_inverse=True)[1]  # scikit-learn takes no infinities
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, ranks), abs=1e-12)
    assert auc(labels.astype(np.float32), scores) == auc(labels, scores)
    assert auc(labels[:2000], scores[:2000]) == pytest.approx(_pairs(labels[:2000], scores[:2000]), abs=1e-12)


@pytest.mark.parametrize("rate", [0.0005, 0.03, 0.97])
def test_auc_of_many_rows_equals_sklearn(rate):
    rng = np.random.default_rng(8)
    labels = rng.random(300_001) < rate
    scores = (rng.standard_normal(len(labels)) + labels).astype(np.float32)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    # Many ties that go on across whatever is looked up together.
    few = np.round(scores * 2)
    assert auc(labels, few) == pytest.approx(roc_auc_score(labels, few), abs=1e-12)


def test_auc_of_every_small_case_equals_counted_pairs():
    rng = np.random.default_rng(9)
    for _ in range(500):
        labels = rng.random(rng.integers(2, 12)) < 0.5
        scores = rng.integers(0, 5, len(labels)).astype(rng.choice(["f4", "f8", "f2", "i4"]))
        if 0 < labels.sum() < len(labels):
            assert auc(labels, scores) == pytest.approx(_pairs(labels, scores), abs=1e-15)


def test_auc_keeps_what_its_dtype_tells_apart():
    labels, scores = np.array([True, False]), np.array([1 + NEXT, 1.0])
    assert auc(labels, scores) == 1.0
    assert auc(labels, scores.astype(np.float32)) == 0.5


def test_auc_leaves_its_arguments_alone():
    labels, scores = _case("float32")
    before = labels.copy(), scores.copy()
    auc(labels, scores)
    StreamingAuc().update(labels, scores)
    assert np.array_equal(labels, before[0])
    assert np.array_equal(scores, before[1])


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5), np.zeros(0)])
def test_auc_of_one_class_is_undefined(labels):
    assert auc(labels, np.arange(len(labels))) is None
    assert _stream(labels, np.arange(len(labels)))[:2] == (None, None)


def _stream(labels, scores, cuts=()) -> tuple[float, float]:
    streaming = StreamingAuc()
    for part in np.split(np.arange(len(labels)), cuts):
        streaming.update(labels[part], scores[part])
    return streaming.result()


@pytest.mark.parametrize("kind", KINDS)
def test_the_streaming_bound_holds(kind):
    labels, scores = _case(kind)
    value, error = _stream(labels, scores)
    assert 0 <= error <= 0.5
    assert abs(value - auc(labels, scores)) <= error + 1e-15
    if kind in ("few values", "float16 ties", "all tied", "both zeros", "infinite"):  # what shares a bin is equal
        assert value == pytest.approx(auc(labels, scores), abs=1e-7 if kind == "infinite" else 1e-15)


def test_the_streaming_bound_is_reached_but_not_passed():
    # Neighbouring float32 values share a bin; ranked all right or all wrong, they err by the whole bound.
    labels, score = np.array([False, True] * 50), np.float32(-0.3)
    for direction in (np.inf, -np.inf):
        scores = np.where(labels, np.nextafter(score, np.float32(direction)), score)
        value, error = _stream(labels, scores)
        assert (value, error) == (0.5, 0.5)
        assert abs(auc(labels, scores) - value) == error
    # Three of four pairs in bins of their own.
    labels, scores = np.array([0, 0, 1, 1], bool), np.array([score, -9, np.nextafter(score, np.float32(0)), 4])
    assert _stream(labels, scores) == (0.875, 0.125)
    assert auc(labels, scores) == 1.0


@pytest.mark.parametrize("rate", [0.03, 0.25])
def test_the_streaming_error_of_realistic_logits_is_small(rate):
    rng = np.random.default_rng(11)
    logits = rng.normal(math.log(rate / (1 - rate)), 1.2, 1_000_000).astype(np.float32)
    labels = rng.random(len(logits)) < expit(logits)
    value, error = _stream(labels, logits)
    assert error < 1e-7
    assert abs(value - auc(labels, logits)) <= error


def test_no_score_falls_into_a_lower_bin_than_a_smaller_one():
    rng = np.random.default_rng(12)
    scores = rng.integers(0, 2**32, 2_000_000, dtype=np.uint32).view(np.float32)  # of every size
    around = (rng.normal(-2.5, 3, 500_000)).astype(np.float32)
    neighbours = [np.nextafter(around, np.float32(to)) for to in (-np.inf, np.inf)]
    edges = np.array([-np.inf, -0.0, 0.0, StreamingAuc.CENTRE, np.inf], np.float32)
    scores = np.sort(np.concatenate([scores[~np.isnan(scores)], around, *neighbours, edges]))
    bins = StreamingAuc()._bins(scores)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert bins[-1] == StreamingAuc.BINS - 1
    assert len(np.unique(bins)) > 300_000


def test_batches_make_no_difference_to_a_stream():
    labels, scores = _case("float32", 200_000)
    whole = _stream(labels, scores)
    assert whole == _stream(labels, scores, [1, 1, 70_000, 199_999])
    assert whole == _stream(labels, scores, range(777, 200_000, 777))
    assert whole == _stream(labels[::-1], scores[::-1])
    totals, parts = LogitTotals(), LogitTotals()
    totals.update(labels, scores)
    for part in np.split(np.arange(len(labels)), range(777, 200_000, 777)):
        parts.update(labels[part], scores[part])
    assert (totals.rows, totals.clicks) == (parts.rows, parts.clicks) == (200_000, labels.sum())
    assert totals.loss == pytest.approx(parts.loss, rel=1e-13)
    assert totals.probability == pytest.approx(parts.probability, rel=1e-13)


def _on_device(labels, scores, cuts=()) -> tuple[LogitTotals, float | None, float | None]:
    collected = DeviceScores(len(labels), torch.device("cpu"))
    for part in np.split(np.arange(len(labels)), cuts):
        collected.update(torch.from_numpy(labels[part]), torch.from_numpy(scores[part]))
    return collected.result()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_device_ranks_equals_sklearn_and_the_host(kind):
    labels, scores = _case(kind)
    scores = scores.astype(np.float32)
    totals, value, error = _on_device(labels.astype(np.float32), scores, [1, 1, 7000, 19_999])
    ranks = np.unique(scores, return_inverse=True)[1]
    assert error == 0.0
    assert value == auc(labels, scores) == pytest.approx(roc_auc_score(labels, ranks), abs=1e-12)
    host = LogitTotals()
    host.update(labels, scores)
    assert (totals.rows, totals.clicks) == (host.rows, host.clicks)
    assert totals.loss == pytest.approx(host.loss, rel=1e-13)
    assert totals.probability == pytest.approx(host.probability, rel=1e-13)
    assert _on_device(labels, scores) == (totals, value, error)
    fewer = DeviceScores(len(labels) + 5, torch.device("cpu"))  # rows than announced
    fewer.update(torch.from_numpy(labels), torch.from_numpy(scores))
    assert fewer.result() == (totals, value, error)


@pytest.mark.parametrize("rate", [0.0005, 0.25, 0.97])
def test_a_device_ranks_more_rows_than_it_sums_at_once(rate):
    rng = np.random.default_rng(8)
    labels = rng.random((1 << 21) + 1) < rate
    scores = (rng.standard_normal(len(labels)) + labels).astype(np.float32)
    for some in (scores, np.round(scores * 2)):
        totals, value, _ = _on_device(labels, some, range(500_000, len(labels), 500_000))
        assert value == pytest.approx(roc_auc_score(labels, some), abs=1e-12)
        assert totals.clicks == labels.sum()
        assert totals.loss / totals.rows == pytest.approx(sklearn_log_loss(labels, expit(some.astype("f8"))), abs=1e-9)
        assert totals.probability == pytest.approx(math.fsum(expit(some.astype("f8"))), rel=1e-12)


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5), np.zeros(0)])
def test_the_auc_of_one_class_is_undefined_on_a_device(labels):
    totals, value, error = _on_device(labels, np.arange(len(labels), dtype=np.float32))
    assert (value, error) == (None, None)
    assert (totals.rows, totals.clicks) == (len(labels), labels.sum())


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_the_first_row_that_is_not_a_number_is_named(labels):
    labels, scores = np.array(labels), np.array([np.inf, -np.inf, np.nan, np.nan], np.float32)
    with pytest.raises(NotANumber) as bad:
        _on_device(labels, scores, [1])
    assert bad.value.row == 2
    totals = LogitTotals()
    totals.update(labels[:1], scores[:1])
    with pytest.raises(NotANumber, match="row 2 is not a number") as bad:
        totals.update(labels[1:], scores[1:])
    assert bad.value.row == 2


def test_log_loss_equals_sklearn():
    labels, scores = _case("distinct")
    p = expit(scores)
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-12)
    p[:10] = [0, 1] * 5
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p), abs=1e-12)
    assert log_loss(np.ones(3), np.ones(3)) == 0


def test_log_loss_of_logits_equals_sklearn_of_probabilities():
    labels, scores = _case("float32", 200_000)
    logits = 4 * scores - 3
    p, totals = expit(logits.astype(np.float64)), LogitTotals()
    totals.update(labels, logits)
    assert totals.loss / totals.rows == pytest.approx(sklearn_log_loss(labels, p), abs=1e-9)
    assert totals.loss / totals.rows == pytest.approx(log_loss(labels, p), abs=1e-9)
    assert totals.probability == pytest.approx(math.fsum(p), rel=1e-12)


@pytest.mark.parametrize("logit", [0.0, -0.0, 1e-30, -20.0, 20.0, 30.0, 36.0, -36.0])
def test_the_loss_of_one_logit_is_right_to_the_last_digits(logit):
    with localcontext() as context:
        context.prec = 60
        for label in (True, False):
            wrong = Decimal(-logit if label else logit)
            totals = LogitTotals()
            totals.update(np.array([label]), np.array([logit], np.float32 if logit != 1e-30 else np.float64))
            expected = float((1 + wrong.exp()).ln()), float(1 / (1 + Decimal(-logit).exp()))
            there, _, _ = _on_device(np.array([label]), np.array([logit], np.float32))
            for sums in (totals, there):
                assert (sums.loss, sums.probability) == pytest.approx(expected, rel=1e-14, abs=0)


def test_a_wrong_certainty_costs_36_nats():
    for logits in ([np.inf, -np.inf, 0], [1e30, -1e30, 0], [100, -100, 0]):
        for labels in ([0, 1, 1], [1, 0, 1]):
            totals = LogitTotals()
            totals.update(np.array(labels), np.array(logits, np.float32))
            p = expit(np.array(logits, np.float64))
            for sums in (totals, _on_device(np.array(labels), np.array(logits, np.float32))[0]):
                assert sums.loss / 3 == pytest.approx(log_loss(np.array(labels), p), rel=1e-14)
                assert sums.probability == pytest.approx(1.5, rel=1e-14)


def test_entropy_is_the_loss_of_the_click_rate():
    labels, _ = _case("distinct")
    rate = labels.mean()
    base = sklearn_log_loss(labels, np.full(len(labels), rate))
    assert entropy(rate) == pytest.approx(base, abs=1e-12)
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert normalised_entropy(base / 2, rate) == pytest.approx(0.5)
    for one_class in (0.0, 1.0):
        assert entropy(one_class) == 0.0
        assert normalised_entropy(0.1, one_class) is None


def test_bad_input_is_refused():
    for score in (np.nan, -np.nan):
        for labels in ([0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]):
            bad = np.array(labels), np.array([0.1, score, 0.2])
            for refuse in (auc, StreamingAuc().update, LogitTotals().update):
                with pytest.raises(ValueError, match="not a number"):
                    refuse(*bad)
    for refuse in (auc, StreamingAuc().update, LogitTotals().update, log_loss):
        with pytest.raises(ValueError, match="one length"):
            refuse(np.array([0, 1]), np.array([0.1]))
        with pytest.raises(ValueError, match="one length"):
            refuse(np.zeros((2, 2)), np.zeros((2, 2)))
    for probability in (np.nan, 1.1, -0.1):
        with pytest.raises(ValueError, match="outside"):
            log_loss(np.array([0, 1]), np.array([0.1, probability]))
    with pytest.raises(ValueError, match="one length"):
        log_loss(np.array([]), np.array([]))
    collected = DeviceScores(2, torch.device("cpu"))
    for shapes in ((2, 1), (1, 2), ((2, 2), (2, 2))):
        with pytest.raises(ValueError, match="one length"):
            collected.update(*map(torch.zeros, shapes))
    collected.update(*torch.zeros(2, 2))
    with pytest.raises(RuntimeError):
        collected.update(*torch.zeros(2, 1))
    full = StreamingAuc()
    full.rows = 2**32 - 2
    full.update(np.array([0]), np.array([0.0]))
    with pytest.raises(ValueError, match="overflow"):
        full.update(np.array([0]), np.array([0.0]))


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
