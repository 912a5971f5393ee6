"""What a DLRM must beat: logistic regression on the same encoded rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dlrm_lib.dataset import EncodedDataset, Split
from dlrm_lib.metrics import log_loss


def logistic_regression(dataset: EncodedDataset, strengths: Sequence[float] = (0.01, 0.05, 0.2)) -> np.ndarray:
    """Click probabilities of the test rows, float64 [rows], from scikit-learn's logistic regression.

    Every id is a feature of its own, as in a DLRM. Numbers are standardised, and each column has a flag for its most
    frequent value, which as a rule is that of zero and missing: a straight line could not follow such a peak. The
    weight of the L2 penalty is chosen on the validation rows: ``strengths`` are scikit-learn's C, from strong to weak,
    tried until the validation loss rises.

    Raises:
        ValueError: the training rows hold one class only.
    """
    numbers = dataset.train.numerical.astype(np.float64)
    scaler, modes = StandardScaler().fit(numbers), [_most_frequent(column) for column in numbers.T]
    splits = (dataset.train, dataset.validation, dataset.test)
    train, validation, test = (_features(split, scaler, np.array(modes)) for split in splits)
    model = LogisticRegression(max_iter=200, warm_start=True)
    best_loss, best = np.inf, None
    for strength in strengths:
        with warnings.catch_warnings():
            # Two hundred steps leave the last digits of the weights open, not those of the AUC.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=strength).fit(train, np.asarray(dataset.train.label))
        loss = log_loss(np.asarray(dataset.validation.label), model.predict_proba(validation)[:, 1])
        if loss >= best_loss:
            break
        best_loss, best = loss, model.predict_proba(test)[:, 1].astype(np.float64)
    return best


def _most_frequent(values: np.ndarray) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()])


def _features(split: Split, scaler: StandardScaler, modes: np.ndarray) -> csr_array:
    """float32 [rows, 2 N + sum of cardinalities]: standardised numbers, flags of their modes, a one for each id."""
    rows, numerical, columns = len(split), split.spec.numerical, len(split.categorical)
    numbers = split.numerical.astype(np.float64)
    starts = 2 * numerical + np.concatenate([[0], np.cumsum(split.spec.cardinalities)])
    index = np.empty((rows, 2 * numerical + columns), np.int32)
    index[:, : 2 * numerical] = np.arange(2 * numerical)
    for j, column in enumerate(split.categorical):
        index[:, 2 * numerical + j] = column + starts[j]
    value = np.ones(index.shape, np.float32)
    value[:, :numerical] = scaler.transform(numbers)
    value[:, numerical : 2 * numerical] = numbers == modes
    pointer = np.arange(rows + 1, dtype=np.int64) * index.shape[1]
    return csr_array((value.ravel(), index.ravel(), pointer), shape=(rows, int(starts[-1])))
