"""Logistic regression on encoded rows against scikit-learn on a dense one-hot matrix."""

from __future__ import annotations

import numpy as np
import pytest
from encoded import random_dataset
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dlrm_lib.baselines import logistic_regression
from dlrm_lib.dataset import EncodedDataset


def one_hot(split, mean, deviation):
    ids = [np.eye(c)[np.asarray(column)] for c, column in zip(split.spec.cardinalities, split.categorical, strict=True)]
    zero = split.numerical == 1.0
    return np.hstack([(split.numerical.astype(float) - mean) / deviation, zero, *ids])


def test_it_equals_a_dense_regression_with_the_better_penalty(tmp_path):
    data = random_dataset(
        tmp_path, cardinalities=(3, 20), click=lambda x, ids: np.where(ids[:, 0] == x[:, 0] // 1, 0.7, 0.2)
    )
    for split in (data.train, data.validation, data.test):
        numbers = np.fromfile(split.folder / "numerical.bin", np.float16)
        numbers[numbers < 1] = 1  # a peak, as zero and missing make one
        numbers.tofile(split.folder / "numerical.bin")
    data = EncodedDataset(tmp_path)
    numbers = data.train.numerical.astype(float)
    mean, deviation = numbers.mean(0), numbers.std(0)
    train, validation, test = (one_hot(s, mean, deviation) for s in (data.train, data.validation, data.test))
    found = []
    for strength in (0.001, 1.0):
        model = LogisticRegression(C=strength, max_iter=1000, tol=1e-8).fit(train, data.train.label)
        loss = log_loss(data.validation.label, model.predict_proba(validation)[:, 1])
        found.append((loss, model.predict_proba(test)[:, 1]))
    expected = min(found, key=lambda pair: pair[0])[1]
    assert logistic_regression(data, (0.001, 1.0)) == pytest.approx(expected, abs=2e-3)
    assert not np.allclose(found[0][1], found[1][1], atol=0.01)
