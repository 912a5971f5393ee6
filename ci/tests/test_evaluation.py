"""Evaluation of a model on a split: every number against scikit-learn, whether kept or streamed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from encoded import random_dataset
from sklearn.metrics import log_loss, roc_auc_score
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_lib.backends.cpu.backend import Cpu
from dlrm_lib.console import auc_text
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.model import DLRM
from dlrm_lib.training import evaluation
from dlrm_lib.training.evaluation import evaluate, predict, scored


class Linear(torch.nn.Module):
    """A model with the signature of a DLRM: a weighted sum of numbers and of one id, float32 [B]."""

    parts, negative_rate, among_all = None, 1.0, DLRM.among_all

    def __init__(self, weight: float = 0.4) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.seen: list[tuple[bool, bool, int]] = []

    def tables(self, categorical: torch.Tensor) -> torch.Tensor:
        return categorical

    def dense(self, numerical: torch.Tensor, categorical: torch.Tensor, parts: None) -> torch.Tensor:
        self.seen.append((self.training, torch.is_inference_mode_enabled(), len(numerical)))
        return self.weight * (numerical.sum(1) - categorical[:, 0]) - 2


class Ranking(Cpu):
    """The CPU as if it were a GPU: scores stay where they are, and threads read ahead."""

    ranks_scores = True
    readers = 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("encoded"), click=lambda x, ids: np.where(ids[:, 0] == 1, 0.8, 0.2))


def by_hand(split, weight=0.4) -> tuple[np.ndarray, np.ndarray]:
    """Labels and float64 logits, straight from the split's arrays."""
    numbers = np.asarray(split.numerical).astype(np.float64).sum(1)
    return np.asarray(split.label), weight * (numbers - np.asarray(split.categorical[0])) - 2


@pytest.mark.parametrize("rows", ["kept", "counted", "on the device"])
@pytest.mark.parametrize("batch_size", [1, 64, 699, 700, 10_000])
def test_every_number_equals_its_oracle(dataset, monkeypatch, rows, batch_size):
    monkeypatch.setattr(evaluation, "EXACT_ROWS", 700 if rows == "kept" else 699)
    backend = Ranking() if rows == "on the device" else Cpu()
    result = evaluate(backend.inference(Linear()), dataset.test, batch_size=batch_size, step=7)
    label, logit = by_hand(dataset.test)
    probability = 1 / (1 + np.exp(-logit))
    rate = label.mean()
    if rows == "counted":
        assert 0 <= result.auc_error < 1e-4
    else:
        assert result.auc_error == 0.0
    assert result.auc == pytest.approx(roc_auc_score(label, logit), abs=result.auc_error + 1e-12)
    assert result.log_loss == pytest.approx(log_loss(label, probability), abs=1e-7)  # the model computes in float32
    assert result.base_log_loss == pytest.approx(log_loss(label, np.full(700, rate)), abs=1e-12)
    assert result.normalised_entropy == pytest.approx(result.log_loss / result.base_log_loss, abs=1e-15)
    assert result.calibration == pytest.approx(probability.sum() / label.sum(), abs=1e-6)
    assert (result.step, result.split, result.rows) == (7, "test", 700)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_device_that_ranks_gives_what_the_host_does(dataset, precision):
    host, there = (
        evaluate(backend.inference(Linear(), precision), dataset.test, batch_size=64, step=7)
        for backend in (Cpu(), Ranking())
    )
    assert there.auc == host.auc
    for name, value in dataclasses.asdict(host).items():
        assert getattr(there, name) == (value if isinstance(value, (str, int)) else pytest.approx(value, rel=1e-13))


def test_the_host_counts_what_is_too_much_for_a_device_that_ranks(dataset, monkeypatch):
    monkeypatch.setattr(evaluation, "EXACT_ROWS", 699)
    for most, error in ((700, 0.0), (699, 0.5)):  # bins cannot know that their rows are ties
        monkeypatch.setattr(evaluation, "EXACT_ROWS_ON_DEVICE", most)
        result = evaluate(Ranking().inference(Linear(0.0)), dataset.test, batch_size=64, step=7)
        assert (result.auc, result.auc_error) == (0.5, error)


def test_scores_stay_on_a_device_that_ranks_and_no_batch_waits_for_it(dataset, monkeypatch):
    class Waits(TorchDispatchMode):
        """Counts what makes the host wait for a GPU."""

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket.__name__
            if name in ("_local_scalar_dense", "nonzero") or (name == "index" and args[1][0].dtype == torch.bool):
                waits.append(name)
            return function(*args, **(kwargs or {}))

    def to_host(*_):
        raise AssertionError("a tensor was copied to the host")

    counts, rows = [], dataset.test.read(0, 700)
    for batch_size in (700, 10):
        waits = []
        with monkeypatch.context() as patch, Waits():
            # Reading fills a tensor through NumPy, on the host.
            patch.setattr(type(dataset.test), "gather", lambda _, some, **__: Batch(*(part[some] for part in rows)))
            for name in ("cpu", "numpy", "__array__"):
                patch.setattr(torch.Tensor, name, to_host)
            evaluate(Ranking().inference(Linear()), dataset.test, batch_size=batch_size, step=7)
        counts.append(len(waits))
    assert counts[0] == counts[1] > 0


def test_an_evaluation_is_what_sklearn_makes_of_the_predictions(dataset):
    inference, label = Cpu().inference(Linear()), np.asarray(dataset.test.label)
    result = evaluate(inference, dataset.test, batch_size=64, step=7)
    probability = predict(inference, dataset.test, batch_size=1000)
    assert (probability.dtype, probability.shape) == (np.float64, (700,))
    assert result.auc == pytest.approx(roc_auc_score(label, probability), abs=1e-12)
    assert result.log_loss == pytest.approx(log_loss(label, probability), abs=1e-9)
    assert result.calibration == pytest.approx(probability.sum() / label.sum(), abs=1e-12)


def test_predictions_are_in_order_and_do_not_depend_on_the_batch_size(dataset):
    _, logit = by_hand(dataset.validation)
    for batch_size in (1, 99, 500, 501):
        probability = predict(Cpu().inference(Linear()), dataset.validation, batch_size=batch_size)
        assert probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_called_for_inference_and_left_as_it_was(dataset, training):
    model = Linear().train(training)
    evaluate(Cpu().inference(model), dataset.test, batch_size=300)
    assert model.seen == [(False, True, 300), (False, True, 300), (False, True, 100)]
    assert model.training is training
    assert not torch.is_inference_mode_enabled()
    # Also when it is left half-way.
    batches = scored(Cpu().inference(model), dataset.test, batch_size=300)
    label, logit = next(batches)
    assert (label.dtype, logit.dtype, label.shape, logit.shape) == (*[torch.float32] * 2, *[(300,)] * 2)
    assert not torch.is_inference_mode_enabled()
    batches.close()
    assert model.training is training


@pytest.mark.parametrize(("exact_rows", "device"), [(10, Cpu), (0, Cpu), (10, Ranking)])
def test_one_class_leaves_undefined_what_is(tmp_path, monkeypatch, exact_rows, device):
    monkeypatch.setattr(evaluation, "EXACT_ROWS", exact_rows)
    never = random_dataset(tmp_path / "never", rows=(5, 0, 10), click=lambda x, ids: np.zeros(len(x)))
    result = evaluate(device().inference(Linear()), never.test, batch_size=4)
    assert (result.auc, result.auc_error, result.normalised_entropy, result.calibration) == (None,) * 4
    assert result.base_log_loss == 0
    assert result.log_loss > 0
    always = random_dataset(tmp_path / "always", rows=(5, 0, 10), click=lambda x, ids: np.ones(len(x)))
    result = evaluate(device().inference(Linear()), always.test, batch_size=4)
    assert (result.auc, result.auc_error, result.normalised_entropy) == (None,) * 3
    assert 0 < result.calibration < 1
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_an_empty_split_is_named(tmp_path):
    empty = random_dataset(tmp_path, rows=(10, 0, 0)).test
    for backend in (Cpu(), Ranking()):
        inference = backend.inference(Linear())
        with pytest.raises(InputError, match="no rows to evaluate on"):
            evaluate(inference, empty, batch_size=5)
        assert predict(inference, empty, batch_size=5).shape == (0,)


@pytest.mark.parametrize("device", [Cpu, Ranking])
def test_a_logit_that_is_not_a_number_is_named(dataset, device):
    class Broken(Linear):
        def dense(self, numerical, categorical, parts):
            logit = super().dense(numerical, categorical, parts)
            logit[5 if len(self.seen) == 3 else 100 :] = float("nan")
            return logit

    for ask in (evaluate, predict):
        model = Broken()
        with pytest.raises(TrainingDiverged, match=r"row 205 of the test split is not a number[\s\S]*remedy"):
            ask(device().inference(model), dataset.test, batch_size=100)
        assert model.training
        assert len(model.seen) == (3 if (ask, device) == (evaluate, Cpu) else 7)  # the host stops at once


def test_low_precision_logits_are_ranked_as_they_are(dataset):
    class Half(Linear):
        def dense(self, numerical, categorical, parts):
            return super().dense(numerical, categorical, parts).bfloat16()

    result = evaluate(Cpu().inference(Half()), dataset.test, batch_size=128)
    label, logit = by_hand(dataset.test)
    rounded = torch.from_numpy(logit.astype(np.float32)).bfloat16().float().numpy()
    assert result.auc == pytest.approx(roc_auc_score(label, rounded), abs=1e-3)
    assert len(np.unique(rounded)) < 600  # there are ties


def test_an_auc_for_people_says_where_there_is_none():
    assert auc_text(0.71234, (0.7, 0.72499)) == "0.7123, 95 % interval 0.7000 to 0.7250"
    assert auc_text(0.5) == "0.5000"
    assert auc_text(None, None) == "undefined (it takes rows with a click and without)"
