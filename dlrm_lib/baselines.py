"""What a DLRM must beat: the click rate, logistic regression and gradient-boosted trees on the same encoded rows."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.dataset.encoded import ColumnSplit
from dlrm_lib.metrics import auc, auc_difference, auc_interval, log_loss, verdict
from dlrm_lib.negatives import among_all

_FOLDS = 5
_PRIOR_ROWS = 5.0


def click_rate(dataset: EncodedDataset) -> float:
    """The share of clicks among all training rows: what to say of every row where nothing is known of any."""
    return _among_all(dataset, np.asarray(dataset.train.label).mean(dtype=np.float64)).item()


def logistic_regression(dataset: EncodedDataset, strengths: Sequence[float] = (0.01, 0.05, 0.2)) -> np.ndarray:
    """Click probabilities of the test rows, float64 [rows], from scikit-learn's logistic regression.

    Every id is a feature of its own, as in a DLRM. Numbers are standardised, and each column has a flag for its most
    frequent value, which as a rule is that of zero and missing: a straight line could not follow such a peak. The
    weight of the L2 penalty is chosen on the validation rows: ``strengths`` are scikit-learn's C, from strong to weak,
    tried until the validation loss rises. Without validation rows it is the strongest.

    Where the training rows hold one class only, all that they tell is that class: 0 or 1 for every row.
    """
    clicked = np.asarray(dataset.train.label)
    if _one_class(clicked) or not len(dataset.test):
        return np.full(len(dataset.test), float(clicked.any()))
    numbers = dataset.train.numerical.astype(np.float64)
    scale = numbers.mean(0), np.where(np.ptp(numbers, 0) > 0, numbers.std(0), 1.0)
    modes = np.array([_most_frequent(column) for column in numbers.T])
    splits = (dataset.train, dataset.validation, dataset.test)
    train, validation, test = (_features(split, scale, modes) for split in splits)
    model = LogisticRegression(max_iter=200, warm_start=True)
    best_loss, best = np.inf, np.empty(0)
    for strength in strengths:
        with warnings.catch_warnings():
            # Two hundred steps leave the last digits of the weights open, not those of the AUC.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=strength).fit(train, clicked)
        loss = -np.inf  # without validation rows the first one stays
        if len(dataset.validation):
            loss = log_loss(
                np.asarray(dataset.validation.label), _among_all(dataset, model.predict_proba(validation)[:, 1])
            )
        if loss >= best_loss:
            break
        best_loss, best = loss, _among_all(dataset, model.predict_proba(test)[:, 1])
    return best


def _among_all(dataset: EncodedDataset, probability: np.ndarray) -> np.ndarray:
    """Probabilities learned from the training rows, corrected where not all non-clicks are among them; as float64."""
    return among_all(probability.astype(np.float64), dataset.manifest.negative_rate)


def _most_frequent(values: np.ndarray) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()])


def _one_class(clicked: np.ndarray) -> bool:
    return bool(clicked.all() or not clicked.any())


def _features(split: ColumnSplit, scale: tuple[np.ndarray, np.ndarray], modes: np.ndarray) -> csr_array:
    """float32 [rows, 2 N + sum of cardinalities]: standardised numbers, flags of their modes, a one for each id."""
    slots = list(_slots(split))
    rows, numerical = len(split), split.spec.numerical
    numbers = split.numerical.astype(np.float64)
    starts = 2 * numerical + np.concatenate([[0], np.cumsum(split.spec.cardinalities)])
    index = np.empty((rows, 2 * numerical + len(slots)), np.int32)
    value = np.ones(index.shape, np.float32)
    index[:, : 2 * numerical] = np.arange(2 * numerical)
    for slot, (j, ids) in enumerate(slots, 2 * numerical):
        there = ids < split.spec.cardinalities[j]
        index[:, slot] = np.where(there, ids, 0) + starts[j]
        value[:, slot] = there
    value[:, :numerical] = (numbers - scale[0]) / scale[1]
    value[:, numerical : 2 * numerical] = numbers == modes
    pointer = np.arange(rows + 1, dtype=np.int64) * index.shape[1]
    return csr_array((value.ravel(), index.ravel(), pointer), shape=(rows, int(starts[-1])))


def _slots(split: ColumnSplit) -> Iterator[tuple[int, np.ndarray]]:
    """Each categorical column's number and its ids [rows]; those of a column of bags place by place.

    What fills up a bag is the first id that the column does not have.
    """
    for j, column in enumerate(split.categorical):
        for ids in column.T if column.ndim == 2 else [column]:
            yield j, ids


def gradient_boosting(
    dataset: EncodedDataset, *, most_rows: int = 300_000, trees: int = 150, seed: int = 0
) -> np.ndarray:
    """Click probabilities of the test rows, float64 [rows], from scikit-learn's gradient-boosted trees.

    A tree cuts an ordered column in two, and the order of ids means little: it is that of their counts. So each id is
    given twice: as it is, which tells frequent ids from rare ones and single ids apart, and as the click rate of the
    training rows that hold it (see ``click_rates``), where one cut separates all ids that promise clicks. Numbers stay
    as they are. As many trees are used as do best on the validation rows; without such rows, all of them.

    Where the training rows hold one class only, all that they tell is that class: 0 or 1 for every row.

    Args:
        dataset: What to learn from and to predict.
        most_rows: Training rows to use; if there are more, so many are drawn at random. It bounds time and memory.
        trees: Most trees, of at most 31 leaves each.
        seed: Of the drawing and of the folds.
    """
    rng, train = np.random.default_rng(seed), dataset.train
    rows: slice | np.ndarray = slice(None)
    if len(train) > most_rows:
        rows = np.sort(rng.choice(len(train), most_rows, replace=False, shuffle=False))
    clicked = np.asarray(train.label[rows])
    if _one_class(clicked) or not len(dataset.test):
        return np.full(len(dataset.test), float(clicked.any()))
    fold = rng.permutation(len(clicked)) % _FOLDS
    parts = _parts(dataset, rows)
    columns = [[split.numerical[some]] for split, some in parts]
    for slots in zip(*(_slots(split) for split, _ in parts), strict=True):
        of_train, *of_others = [ids[some] for (_, ids), (_, some) in zip(slots, parts, strict=True)]
        cardinality = train.spec.cardinalities[slots[0][0]] + 1  # and what fills up a bag
        rates, rate_of_id = click_rates(of_train, cardinality, clicked, fold)
        columns[0] += [of_train[:, None], rates[:, None]]
        for part, ids in zip(columns[1:], of_others, strict=True):
            part += [ids[:, None], rate_of_id[ids][:, None]]
    features, validation, test = (np.hstack(part, dtype=np.float32, casting="same_kind") for part in columns)
    model = HistGradientBoostingClassifier(max_iter=trees, early_stopping=False, random_state=seed)
    # One thread: where others use the cores too, waiting for a second one has taken a hundred times as long.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(features, clicked)
        last = trees - 1
        if len(label := np.asarray(dataset.validation.label)):
            staged = (_among_all(dataset, p[:, 1]) for p in model.staged_predict_proba(validation))
            last = int(np.argmin([log_loss(label, probability) for probability in staged]))
        best = next(itertools.islice(model.staged_predict_proba(test), last, None))
    return _among_all(dataset, best[:, 1])


def _parts(dataset: EncodedDataset, of_train: slice | np.ndarray) -> list[tuple[ColumnSplit, slice | np.ndarray]]:
    return [(dataset.train, of_train), (dataset.validation, slice(None)), (dataset.test, slice(None))]


def click_rates(
    ids: np.ndarray, cardinality: int, clicked: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Click rates of ids (target statistics), as if five more rows with the rate of all rows held each.

    A row must not be described by its own click: an id that is seen once would give it away, and a model would learn to
    read it there, but find nothing like it in new rows (Prokhorenkova et al. 2018). So a row's rate comes from rows of
    other folds alone.

    Args:
        ids: whole numbers [rows] below ``cardinality``.
        cardinality: Ids there are.
        clicked: bool [rows].
        fold: whole numbers from 0 to 4 [rows].

    Returns:
        The rate of each row's id in the other folds, float32 [rows]; and that of each id in all rows, for new rows,
        float32 [cardinality].
    """
    places = ids.astype(np.int64) * _FOLDS + fold
    seen = np.bincount(places, minlength=cardinality * _FOLDS).reshape(cardinality, _FOLDS)
    clicks = np.bincount(places[clicked], minlength=cardinality * _FOLDS).reshape(cardinality, _FOLDS)
    all_seen, all_clicks = seen.sum(1, keepdims=True), clicks.sum(1, keepdims=True)
    of_others = _smoothed(all_clicks - clicks, all_seen - seen)
    return of_others[ids, fold].astype(np.float32), _smoothed(all_clicks, all_seen)[:, 0].astype(np.float32)


def _smoothed(clicks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Click rates by id [cardinality, k], each column with its own rate of all rows."""
    return (clicks + _PRIOR_ROWS * clicks.sum(0) / seen.sum(0)) / (seen + _PRIOR_ROWS)


def compared(label: np.ndarray, scores: Mapping[str, np.ndarray], base: str) -> pd.DataFrame:
    """A line for each model: its AUC with the middle 95 % of the bootstrap, its log loss, and how it stands to one.

    Args:
        label: bool [rows].
        scores: Name of a model → its click probabilities [rows].
        base: The model that the others are judged beside: "better", "worse" or "not told apart".

    Returns:
        Columns "test AUC", "from", "to", "log loss" and "beside" with the name of ``base``; an AUC that is undefined,
        as the labels hold one class only, is NaN.
    """
    lines = {}
    for name, score in scores.items():
        low, high = auc_interval(label, score) or (np.nan, np.nan)
        judged = "" if name == base else verdict(auc_difference(label, score, scores[base]))
        found = auc(label, score)
        lines[name] = {
            "test AUC": np.nan if found is None else found,
            "from": low,
            "to": high,
            "log loss": log_loss(label, score),
            f"beside {base}": judged,
        }
    return pd.DataFrame.from_dict(lines, orient="index")
