"""Logistic regression against scikit-learn on a dense one-hot matrix, boosted trees against loops and known chances."""

from __future__ import annotations

import numpy as np
import pytest
from encoded import random_dataset
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dlrm_lib.baselines import click_rates, compared, gradient_boosting, logistic_regression
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.metrics import auc, auc_difference, auc_interval, verdict


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


def random_ids(seed=0, rows=400, cardinality=30):
    rng = np.random.default_rng(seed)
    ids = (rng.random(rows) ** 2 * (cardinality - 3)).astype(np.int16)  # the last ids are held by no row
    return ids, cardinality, rng.random(rows) < 0.3, rng.integers(0, 5, rows)


def naive_rate(id, ids, clicked):
    same = [c for i, c in zip(ids, clicked, strict=True) if i == id]
    return (sum(same) + 5 * np.mean(clicked)) / (len(same) + 5)


def test_click_rates_equal_a_loop_over_the_rows_of_other_folds():
    ids, cardinality, clicked, fold = random_ids()
    of_rows, of_ids = click_rates(ids, cardinality, clicked, fold)
    expected = [naive_rate(i, ids[fold != f], clicked[fold != f]) for i, f in zip(ids, fold, strict=True)]
    assert of_rows == pytest.approx(np.array(expected), rel=1e-6)
    assert of_ids == pytest.approx(np.array([naive_rate(i, ids, clicked) for i in range(cardinality)]), rel=1e-6)
    assert of_rows.dtype == of_ids.dtype == np.float32


@pytest.mark.parametrize("row", [0, 17, 399])
def test_a_row_s_own_click_does_not_describe_it(row):
    ids, cardinality, clicked, fold = random_ids()
    before, _ = click_rates(ids, cardinality, clicked, fold)
    clicked[row] = not clicked[row]
    after, _ = click_rates(ids, cardinality, clicked, fold)
    assert after[row] == before[row]
    assert (after != before).any()


def chance(x, ids):
    """Clicks follow two columns only together: each alone says nothing."""
    return np.where((ids[:, 0] % 2 == 0) == (x[:, 0] > 1), 0.8, 0.2)


def test_trees_learn_what_two_columns_mean_together(tmp_path):
    data = random_dataset(tmp_path, rows=(6000, 1000, 2000), cardinalities=(4, 500), click=chance)
    label, ids = np.asarray(data.test.label), np.stack(data.test.categorical, 1)
    best = auc(label, chance(data.test.numerical, ids))
    assert auc(label, logistic_regression(data)) < 0.6
    trees = gradient_boosting(data)
    assert trees.dtype == np.float64
    assert auc(label, trees) > best - 0.02
    assert trees.mean() == pytest.approx(label.mean(), abs=0.03)


def test_few_trees_learn_what_each_of_many_ids_means(tmp_path):
    chances = np.random.default_rng(7).choice([0.1, 0.9], 300)  # an order of ids is of no use
    data = random_dataset(
        tmp_path, rows=(9000, 500, 3000), cardinalities=(4, 300), click=lambda x, ids: chances[ids[:, 1]]
    )
    label = np.asarray(data.test.label)
    assert auc(label, gradient_boosting(data, trees=3)) > auc(label, chances[data.test.categorical[1]]) - 0.02


def test_ids_that_say_nothing_do_not_deceive_trees(tmp_path):
    data = random_dataset(tmp_path, rows=(3000, 1000, 3000), cardinalities=(2000, 2000))
    label = np.asarray(data.test.label)
    assert auc(label, gradient_boosting(data)) == pytest.approx(0.5, abs=0.04)


def test_the_number_of_trees_is_chosen_on_the_validation_rows(tmp_path):
    data = random_dataset(tmp_path, rows=(1000, 1000, 1000), cardinalities=(40, 40))
    label = np.asarray(data.test.label)
    chosen, all_trees = (log_loss(label, gradient_boosting(data, trees=n)) for n in (150, 1))
    assert chosen <= all_trees + 0.01  # 150 trees of noise would cost 0.3 and more


def test_a_sample_of_the_rows_is_enough_and_repeatable(tmp_path):
    data = random_dataset(tmp_path, rows=(6000, 1000, 1000), cardinalities=(4, 500), click=chance)
    few, again, other = (gradient_boosting(data, most_rows=2000, trees=20, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(few, again)
    assert not np.array_equal(few, other)
    assert not np.array_equal(few, gradient_boosting(data, most_rows=6000, trees=20))
    assert auc(np.asarray(data.test.label), few) > 0.7


@pytest.mark.parametrize("baseline", [logistic_regression, gradient_boosting])
class TestWhatRowsDoNotTell:
    @pytest.mark.parametrize("rate", [0.0, 1.0])
    def test_of_one_class_only_that_class_is_known(self, tmp_path, baseline, rate):
        data = random_dataset(tmp_path, rows=(100, 50, 60), cardinalities=(4,), click=lambda x, ids: rate)
        assert baseline(data).tolist() == [rate] * 60

    @pytest.mark.parametrize("numerical", [0, 3])
    def test_no_row_to_predict_gives_no_prediction(self, tmp_path, baseline, numerical):
        found = baseline(random_dataset(tmp_path, rows=(100, 50, 0), cardinalities=(4,), numerical=numerical))
        assert (found.shape, found.dtype) == ((0,), np.float64)

    @pytest.mark.parametrize(
        ("numerical", "cardinalities", "click"),
        [
            (2, (300, 300), lambda x, ids: np.where(x[:, 0] > 1, 0.7, 0.2)),
            (0, (2, 300), lambda x, ids: 0.2 + 0.5 * (ids[:, 0] > 0)),
            (3, (), lambda x, ids: np.where(x[:, 0] > 1, 0.7, 0.2)),
        ],
    )
    def test_any_kind_of_column_is_learned_without_rows_to_choose_by(
        self, tmp_path, baseline, numerical, cardinalities, click
    ):
        how = {"numerical": numerical, "cardinalities": cardinalities, "click": click}
        data = random_dataset(tmp_path, rows=(2000, 0, 2000), **how)
        assert auc(np.asarray(data.test.label), baseline(data)) > 0.6


def test_a_column_that_is_constant_in_training_does_not_explode_later(tmp_path):
    random_dataset(tmp_path, rows=(2000, 500, 500), numerical=2, cardinalities=(2,), click=chance_of_one)
    for split, value in (("train", 0.693359375), ("validation", 0.693359375), ("test", 9.0)):
        numbers = np.fromfile(tmp_path / split / "numerical.bin", np.float16).reshape(-1, 2)
        numbers[:, 1] = value
        numbers.tofile(tmp_path / split / "numerical.bin")
    data = EncodedDataset(tmp_path)
    assert auc(np.asarray(data.test.label), logistic_regression(data)) > 0.6
    assert 0.05 < logistic_regression(data).mean() < 0.95


def chance_of_one(x, ids):
    return np.where(ids[:, 0] > 0, 0.7, 0.2)


def test_without_rows_to_choose_by_the_first_penalty_stays(tmp_path):
    data = random_dataset(tmp_path, rows=(500, 0, 100), cardinalities=(20,))
    assert np.array_equal(logistic_regression(data, (0.01, 5.0)), logistic_regression(data, (0.01,)))


def scored_rows(seed, rows=600, strength=1.0):
    rng = np.random.default_rng(seed)
    label = rng.random(rows) < 0.3
    return label, rng.normal(size=rows) + strength * label


def test_the_interval_of_a_difference_holds_it_and_is_narrower_for_scores_that_err_alike():
    label, score = scored_rows(0)
    near, far = score + np.random.default_rng(1).normal(0, 0.3, 600), np.random.default_rng(2).normal(size=600) + label
    of_near, of_far = (auc_difference(label, score, other) for other in (near, far))
    for other, (low, high) in ((near, of_near), (far, of_far)):
        assert low < auc(label, score) - auc(label, other) < high
    assert of_near[1] - of_near[0] < 0.6 * (of_far[1] - of_far[0])


def test_the_interval_of_a_difference_has_the_width_that_theory_gives():
    # The scores are independent, so their variances add up: each is that of a Mann-Whitney statistic (Hanley 1982).
    label, score = scored_rows(3, rows=3000)
    other = np.random.default_rng(4).normal(size=3000)
    variance, clicks = 0.0, int(label.sum())
    for a in (auc(label, score), auc(label, other)):
        q1, q2, others = a / (2 - a), 2 * a * a / (1 + a), 3000 - clicks
        spread = a * (1 - a) + (clicks - 1) * (q1 - a * a) + (others - 1) * (q2 - a * a)
        variance += spread / (clicks * others)
    low, high = auc_difference(label, score, other, draws=400)
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.15)


def test_a_model_does_not_differ_from_itself_and_one_class_has_no_difference():
    label, score = scored_rows(5)
    assert auc_difference(label, score, 3 * score) == (0, 0)
    assert auc_difference(np.zeros(600, bool), score, score) is None


def test_models_are_judged_beside_one():
    rng = np.random.default_rng(1)
    label = rng.random(2000) < 0.3
    truth = np.where(label, 0.6, 0.2)
    scores = {"good": truth + rng.normal(0, 0.1, 2000), "middling": truth + rng.normal(0, 0.4, 2000)}
    scores = {name: score.clip(0.01, 0.99) for name, score in scores.items()}
    scores |= {"the same": scores["middling"], "random": rng.uniform(0.1, 0.9, 2000)}
    table = compared(label, scores, "middling")
    assert table["beside middling"].to_dict() == {
        **{"good": "better", "middling": "", "the same": "not told apart", "random": "worse"}
    }
    assert table.loc["good", ["test AUC", "from", "to", "log loss"]].tolist() == [
        *(auc(label, scores["good"]), *auc_interval(label, scores["good"]), log_loss(label, scores["good"]))
    ]


def test_nothing_is_told_apart_where_there_is_no_auc():
    assert verdict(None) == "not told apart"
    table = compared(np.zeros(50, bool), {"a": np.full(50, 0.1), "b": np.full(50, 0.2)}, "a")
    assert table[["test AUC", "from", "to"]].isna().all(axis=None)
    assert table["beside a"].tolist() == ["", "not told apart"]
    assert table["log loss"].tolist() == pytest.approx([-np.log(0.9), -np.log(0.8)])
