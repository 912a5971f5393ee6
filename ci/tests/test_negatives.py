"""A share of the non-clicks: which rows are kept, and that whatever learned from them answers for all rows."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import oracle_preprocess as oracle
import pytest
import torch
from encoded import random_dataset
from sklearn.metrics import log_loss, roc_auc_score
from test_preprocess import SMALL, write_days

from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.baselines import click_rate, gradient_boosting, logistic_regression
from dlrm_lib.config import Config, PreprocessConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.drift import drift_remarks
from dlrm_lib.errors import InputError
from dlrm_lib.manifest import Manifest
from dlrm_lib.metrics import entropy
from dlrm_lib.negatives import among_all, logit_shift, stays
from dlrm_lib.preprocess.needs import disk_needs, estimate_needs
from dlrm_lib.preprocess.text import PlainLines
from dlrm_lib.splitmix64 import splitmix64
from dlrm_lib.training import (
    Progress,
    Results,
    build,
    evaluate,
    fit,
    load_checkpoint,
    load_state,
    predict,
    restore_model,
    save_checkpoint,
    save_state,
)
from dlrm_lib.training.tensor_file import open_tensors, write_tensors

RATE = 0.2
DEVICE = pick("cpu")
# Training at its end says what it has learned; a constant learning rate does not matter here.
CONFIG = Config.from_preset(
    "smoke", {"batch_size": 256, "epochs": 3, "optimizer": "adagrad", "lr": 0.05, "print_freq": 10**9}
)


def chance(x, ids):
    """Click probabilities from 0.05 to 0.45: about 0.15 of the rows are clicked."""
    return np.where(ids[:, 0] == 0, 0.05, 0.15) + 0.2 * (x[:, 0] > 2) + 0.1 * (ids[:, 1] % 2)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Rows with clicks to be foretold, of which a fifth of the non-clicks is there to train on."""
    folder = tmp_path_factory.mktemp("sampled")
    rows = 40_000, 2_000, 20_000
    return random_dataset(folder, rows=rows, cardinalities=(3, 7, 50), click=chance, negative_rate=RATE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Other rows of the same kind, with the same vocabulary, and all to train on."""
    folder = tmp_path_factory.mktemp("whole")
    return random_dataset(folder, rows=(3_000, 500, 700), cardinalities=(3, 7, 50), click=chance)


@pytest.fixture(scope="module")
def trained(sampled):
    training = build(CONFIG, sampled, backend=DEVICE)
    return training, [event for event in fit(training) if isinstance(event, Progress)]


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1, 1e-9, 1e-30])
def test_rows_are_kept_by_their_own_number_alone(rate):
    clicked = np.random.default_rng(1).random(3_000) < 0.1
    first = 7_000  # rows of parts before
    kept = stays(clicked, splitmix64(5, np.arange(first, first + 3_000)), rate)
    rows = [oracle.Row(int(label), [], []) for label in clicked]
    config = PreprocessConfig(shuffle_seed=5, negative_rate=rate)
    assert kept.tolist() == [oracle.stays(row, first + index, config) for index, row in enumerate(rows)]
    error = 4 * math.sqrt(rate * (1 - rate) / np.sum(~clicked))
    assert kept[~clicked].mean() == pytest.approx(rate, abs=error)


def test_what_is_kept_is_no_stretch_of_the_shuffled_order():
    number = splitmix64(0, np.arange(20_000))
    kept = stays(np.zeros(20_000, bool), number, 0.1)
    assert abs(number[kept].astype(float).mean() / 2**63 - 1) < 0.05
    more = stays(np.zeros(20_000, bool), number, 0.3)
    assert (more | ~kept).all()  # a higher rate keeps them too


@pytest.mark.parametrize("rate", [1.0, 0.25, 0.001])
def test_the_correction_gives_back_the_click_rate_of_all_rows(rate):
    for clicks, others in ((1, 1000), (300, 700), (999, 1)):
        among_kept = Fraction(clicks) / (clicks + others * Fraction(rate))
        expected = clicks / (clicks + others)
        assert among_all(np.array(float(among_kept)), rate) == pytest.approx(expected, rel=1e-9)
        logit = math.log(among_kept / (1 - among_kept)) + logit_shift(rate)
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(expected, rel=1e-9)
    assert among_all(np.array([0.0, 1.0]), rate).tolist() == [0, 1]


def test_a_model_is_calibrated_on_all_rows(trained, sampled):
    training, progress = trained
    among_kept = np.asarray(sampled.train.label).mean()
    assert (sampled.manifest.left_out, among_kept > 0.4) == (40_000 - len(sampled.train), True)
    found = evaluate(training.inference, sampled.test, batch_size=999)
    assert found.calibration == pytest.approx(1, abs=0.05)
    assert found.normalised_entropy < 1
    # The loss in training is that of the rows it saw, of which half are clicked.
    assert 0.8 < progress[-1].loss / entropy(among_kept) < 1
    assert progress[-1].loss > found.log_loss + 0.1
    training.model.negative_rate = 1.0
    try:
        uncorrected = evaluate(training.inference, sampled.test, batch_size=999)
    finally:
        training.model.negative_rate = RATE
    assert uncorrected.calibration > 2
    assert uncorrected.log_loss > found.log_loss + 0.1
    assert uncorrected.auc == pytest.approx(found.auc, abs=1e-6)  # of float32 logits, two may become one


def test_models_of_all_rows_and_of_a_share_predict_as_many_clicks(tmp_path):
    """The mean of five seeds, within one per cent; uncorrected it would be twice as many."""
    ratios, config = [], CONFIG.override(batch_size=512)
    for seed in range(5):
        found = []
        for rate in (1.0, 0.25):
            folder = tmp_path / f"{seed}-{rate}"
            options = {"cardinalities": (3, 7, 50), "click": chance, "seed": seed, "negative_rate": rate}
            dataset = random_dataset(folder, rows=(60_000, 0, 20_000), **options)
            training = build(config.override(seed=seed), dataset, backend=DEVICE)
            list(fit(training))
            found.append(evaluate(training.inference, dataset.test, batch_size=20_000))
        ratios.append(found[1].calibration / found[0].calibration)
        assert found[1].auc == pytest.approx(found[0].auc, abs=0.02)
    assert np.mean(ratios) == pytest.approx(1, abs=0.01), ratios


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_that_is_said_of_a_split_follows_from_the_corrected_probabilities(trained, sampled, precision):
    model, split = trained[0].model, sampled.test
    label, raw = np.asarray(split.label), []
    with torch.no_grad(), DEVICE.autocast(precision):
        for batch in split.batches(5_000):
            raw.append(model.dense(batch.numerical, model.tables(batch.categorical)).float())
    p = torch.cat(raw).double().sigmoid().numpy()
    q = p / (p + (1 - p) / RATE)
    inference = DEVICE.inference(model, precision)
    assert predict(inference, split, batch_size=5_000) == pytest.approx(q, abs=1e-6)
    found = evaluate(inference, split, batch_size=5_000)
    assert found.log_loss == pytest.approx(log_loss(label, q), abs=1e-6)
    assert found.calibration == pytest.approx(q.sum() / label.sum(), abs=1e-5)
    assert found.auc == pytest.approx(roc_auc_score(label, p), abs=1e-5 if precision == "bf16" else 1e-6)
    if precision == "fp32":
        batch = split.read(0, 100)
        answer = model(batch.numerical, batch.categorical).detach()
        assert answer.sigmoid().numpy() == pytest.approx(q[:100], abs=1e-6)


def test_baselines_are_calibrated_on_all_rows(sampled):
    label = np.asarray(sampled.test.label)
    accepted, clicks = sampled.manifest.accepted["train"], sampled.manifest.clicks["train"]
    assert click_rate(sampled) == pytest.approx(clicks / accepted, rel=0.03)
    for scores in (logistic_regression(sampled, (0.05,)), gradient_boosting(sampled, trees=30)):
        assert scores.mean() / label.mean() == pytest.approx(1, abs=0.05)
        assert log_loss(label, scores) < log_loss(label, np.full(len(label), click_rate(sampled)))


def test_a_model_keeps_the_rate_of_its_training_rows(trained, sampled, whole, tmp_path):
    training, _ = trained
    save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
    expected = predict(training.inference, whole.test, batch_size=999)
    model, _ = load_checkpoint(tmp_path / "m.safetensors", whole)
    assert model.negative_rate == RATE
    assert np.array_equal(predict(DEVICE.inference(model), whole.test, batch_size=999), expected)
    other = build(CONFIG, whole, backend=DEVICE)
    assert other.model.negative_rate == 1
    restore_model(tmp_path / "m.safetensors", other)
    assert np.array_equal(predict(other.inference, whole.test, batch_size=999), expected)


def test_a_checkpoint_of_an_earlier_version_was_trained_on_all_rows(whole, tmp_path):
    training = build(CONFIG, whole, backend=DEVICE)
    save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
    with open_tensors(tmp_path / "m.safetensors") as file:
        about = file.about
    del about["negative_rate"], about["encoding"]["negative_rate"]
    write_tensors(tmp_path / "old.safetensors", training.model.state_dict(), about)
    model, _ = load_checkpoint(tmp_path / "old.safetensors", whole)
    assert model.negative_rate == 1
    a, b = (predict(DEVICE.inference(of), whole.test, batch_size=999) for of in (model, training.model))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("backwards", [False, True])
def test_training_goes_on_with_rows_of_another_rate_where_it_was(sampled, whole, backwards):
    first, second = (whole, sampled) if backwards else (sampled, whole)
    model = build(CONFIG, first, backend=DEVICE).model
    before = predict(DEVICE.inference(model), whole.test, batch_size=999)
    training = build(CONFIG.override(epochs=1), second, backend=DEVICE, model=model)
    assert training.model.negative_rate == second.manifest.negative_rate != first.manifest.negative_rate
    assert predict(training.inference, whole.test, batch_size=999) == pytest.approx(before, abs=1e-6)
    list(fit(training))
    assert evaluate(training.inference, whole.test, batch_size=999).calibration == pytest.approx(1, abs=0.3)


def test_a_run_is_resumed_on_rows_of_its_own_rate_only(sampled, whole, tmp_path):
    for dataset in (sampled, whole):
        save_state(tmp_path / "s.safetensors", build(CONFIG, dataset, backend=DEVICE), Results())
        training, _ = load_state(tmp_path / "s.safetensors", CONFIG, dataset, DEVICE)
        assert training.model.negative_rate == dataset.manifest.negative_rate
    found = r"negative_rate: 1.0 then, 0.2 now[\s\S]*Encode the rows with --negative_rate 1.0"
    with pytest.raises(InputError, match=found):
        load_state(tmp_path / "s.safetensors", CONFIG, sampled, DEVICE)


def test_a_manifest_of_an_earlier_version_has_all_rows(whole, tmp_path):
    config = {name: value for name, value in whole.manifest.config.items() if name != "negative_rate"}
    dataclasses.replace(whole.manifest, config=config).write(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    del document["left_out"]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    manifest = Manifest.read(tmp_path)
    assert (manifest.negative_rate, manifest.accepted) == (1, manifest.rows)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nan", "--negative_rate takes a finite number."),
        ("0", "--negative_rate must be above 0."),
        ("-0.5", "--negative_rate must be above 0."),
        ("2", "--negative_rate must be at most 1."),
        ("few", "--negative_rate takes a finite number."),
    ],
)
def test_a_rate_that_is_none_is_refused(value, said, tmp_path, capsys):
    flags = [f"--input={tmp_path}", f"--output={tmp_path / 'out'}", f"--negative_rate={value}"]
    assert main(["preprocess", *flags]) == 2
    printed = capsys.readouterr().err
    assert (said in printed, f"found: {value}" in printed) == (True, True), printed
    assert not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match="must be above 0"):
        PreprocessConfig(negative_rate=math.nan)


def test_the_command_says_what_is_kept_and_the_training_whose_loss_it_is(tmp_path, capsys):
    clicks, others = b"1\t5\t-3\ta\tb\tc\n", b"0\t1\t2\ta\tb\tc\n"
    raw, out = write_days(tmp_path / "raw", (clicks + others * 9) * 100, (clicks + others) * 10), tmp_path / "out"
    spec = tmp_path / "spec.yaml"
    spec.write_text("channel_spec: {numerical: [a, b], categorical: [c, d, e]}")
    flags = ["preprocess", f"--input={raw}", f"--output={out}", f"--feature_spec={spec}", "--cores=2", "--overwrite"]

    assert main([*flags, "--negative_rate=0.25"]) == 0
    printed, rows = capsys.readouterr().out, Manifest.read(out).rows["train"]
    assert 250 < rows < 400
    assert f"train: {rows:,} rows, click rate {100 / rows:.4f} (of 1,000: all clicks, 0.25 of the others)" in printed
    assert "test: 10 rows, click rate 0.5000 (the first half" in printed

    arguments = [f"--dataset={out}", f"--log_path={tmp_path / 'log.json'}", "--preset=smoke", "--batch_size=64"]
    assert main(["train", *arguments]) == 0
    assert "The loss in training is that of all clicks and 0.25 of the other rows" in capsys.readouterr().out
    assert json.loads((tmp_path / "log.json").read_text().splitlines()[0])["negative_rate"] == 0.25

    # So small a rate that no row without a click is left.
    assert main([*flags, "--negative_rate=1e-30"]) == 0
    says = "every row of the train split is a click: there is nothing to learn; --negative_rate 1e-30 has kept no other"
    assert says in capsys.readouterr().out
    dataset = EncodedDataset(out)
    assert (len(dataset.train), dataset.manifest.left_out, click_rate(dataset)) == (100, 900, 1.0)
    assert logistic_regression(dataset).tolist() == [1.0] * 10

    # And nobody clicked: then nothing is left.
    (raw / "day_0").write_bytes(others * 50)
    capsys.readouterr()
    assert main([*flags, "--negative_rate=1e-30"]) == 2
    printed = capsys.readouterr().err
    assert "--negative_rate 1e-30 leaves no rows for train.\n  found: 50 rows to train on, none of them" in printed
    assert main([*flags, "--negative_rate=1e-30", "--allow_empty_splits"]) == 0
    assert Manifest.read(out).rows == {"train": 0, "validation": 10, "test": 10}


def test_columns_are_compared_in_all_rows(tmp_path):
    """Clicks fill a column that is empty elsewhere: without the non-clicks it would seem to have changed."""
    dataset = random_dataset(tmp_path, rows=(20_000, 2_000, 2_000), negative_rate=0.01)
    token = {"missing": 0.7, "unknown": 0.0, "constant": False}
    same = dataclasses.replace(dataset.manifest, columns={"cat_0": dict.fromkeys(dataset.manifest.rows, token)})
    assert drift_remarks(same, dataset.spec) == []


def test_less_disk_is_needed_where_fewer_rows_are_kept(tmp_path):
    row = b"\t1\t2\ta\tb\tc\n"
    source = write_days(tmp_path / "raw", (b"1" + row + (b"0" + row) * 9) * 100, (b"1" + row + (b"0" + row) * 9) * 50)
    days = sorted(source.glob("day_*"))
    forms = [PlainLines()] * len(days)
    needs = {rate: estimate_needs(days, forms, SMALL, 2, PreprocessConfig(negative_rate=rate)) for rate in (1.0, 0.1)}
    assert (needs[1.0].output_bytes, needs[1.0].spill_bytes) == disk_needs(1500, SMALL)
    kept = 500 + 1000 * (0.15 + 0.85 * 0.1)  # half as many clicks again as were seen: an upper bound
    assert needs[0.1].output_bytes == pytest.approx(kept * 17)
    assert needs[0.1].spill_bytes == pytest.approx(1500 * 17 + kept * 25)
