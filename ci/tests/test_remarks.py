"""What is remarked on: results that are worth nothing, schedules that do not fit, columns that are empty."""

from __future__ import annotations

import json

import numpy as np
import pytest
from encoded import random_dataset
from scipy.stats import mannwhitneyu

from dlrm_lib.__main__ import main
from dlrm_lib.config import TrainingConfig
from dlrm_lib.optim import learning_rate, misfits
from dlrm_lib.training import Evaluation, remarks


def evaluation(*, auc, entropy=0.9, calibration=1.0, rows=1000, clicks=300):
    return Evaluation(
        step=7,
        split="test",
        auc=auc,
        auc_error=None if auc is None else 0.0,
        log_loss=0.5,
        base_log_loss=0.6,
        normalised_entropy=entropy,
        calibration=calibration,
        rows=rows,
        clicks=clicks,
    )


@pytest.mark.parametrize(
    ("of", "beginnings"),
    [
        ({"auc": 0.7}, []),
        ({"auc": 0.7, "entropy": 0.9999}, []),
        ({"auc": 0.7, "entropy": 1.0}, ["test: no better than the base rate: normalised entropy 1.0000"]),
        ({"auc": 0.475, "entropy": 1.78, "calibration": 3.0}, ["test: no better than the base", "test: predicts 3.00"]),
        ({"auc": 0.5}, ["test: AUC 0.5000 cannot be told from that of guessing, 0.5, on 1,000 rows with 300 clicks"]),
        ({"auc": 0.3}, ["test: AUC 0.3000 cannot"]),
        ({"auc": 0.65, "rows": 20, "clicks": 5}, ["test: AUC 0.6500 cannot"]),
        ({"auc": 0.65, "rows": 200_000, "clicks": 5}, ["test: AUC 0.6500 cannot"]),
        ({"auc": 0.51, "rows": 200_000, "clicks": 90_000}, []),
        ({"auc": 0.7, "calibration": 1.25}, []),
        ({"auc": 0.7, "calibration": 1.3}, ["test: predicts 1.30 clicks for each that happened."]),
        ({"auc": 0.7, "calibration": 0.75}, ["test: predicts 0.75 clicks"]),
        ({"auc": 0.9, "calibration": 1.3, "rows": 90, "clicks": 30}, []),  # 30 clicks may as well be 39
        ({"auc": None, "entropy": None, "calibration": None, "clicks": 0}, ["test: no row is a click, so that there"]),
        ({"auc": None, "entropy": None, "calibration": 0.9, "clicks": 1000}, ["test: every row is a click, so that"]),
        # Of an earlier version, which did not write the clicks down.
        ({"auc": 0.51, "clicks": None}, []),
        ({"auc": 0.49, "entropy": 2.0, "clicks": None}, ["test: no better than the base rate"]),
    ],
)
def test_each_remark_and_nothing_else(of, beginnings):
    found = remarks(evaluation(**of))
    assert len(found) == len(beginnings)
    for remark, beginning in zip(found, beginnings, strict=True):
        assert remark.startswith(beginning)
        assert "Likely causes: " in remark


def test_an_auc_is_taken_for_guessing_where_a_test_of_ranks_does_so_too():
    """Mann's and Whitney's test of scores that differ less and less, on splits of several sizes."""
    rng = np.random.default_rng(1)
    agreed = 0
    for rows, clicks in ((40, 10), (300, 100), (2000, 60)):
        for shift in np.linspace(0, 1, 21):
            clicked, others = rng.normal(shift, 1, clicks), rng.normal(0, 1, rows - clicks)
            found = mannwhitneyu(clicked, others, method="asymptotic", use_continuity=False, alternative="greater")
            auc = found.statistic / (clicks * (rows - clicks))
            remarked = bool(remarks(evaluation(auc=auc, rows=rows, clicks=clicks)))
            agreed += remarked == (found.pvalue >= 0.025)
    assert agreed >= 62  # of 63: 1.96 is rounded


@pytest.mark.parametrize("seed", range(3))
def test_a_schedule_without_misfits_has_no_idle_steps_and_one_with_them_does(seed):
    """Against the learning rates themselves, step by step."""
    rng = np.random.default_rng(seed)
    for _ in range(200):
        steps, warmup = int(rng.integers(1, 30)), int(rng.integers(0, 40))
        start, decay = warmup + int(rng.integers(0, 20)), int(rng.integers(0, 30))
        config = TrainingConfig(lr=1.0, warmup_steps=warmup, decay_start_step=start, decay_steps=decay)
        rates = [learning_rate(step, config) for step in range(steps)]
        told = " ".join(misfits(config, steps))
        idle = sum(rate <= 1e-6 for rate in rates)
        assert ("within the warmup" in told) == (max(rates) < 1.0 and warmup > steps)
        assert ("nearly 0" in told) == (idle > 1 or (idle == 1 and start + decay < steps))
        assert not idle or "nearly 0" not in told or f"{steps - start - decay:,} of the {steps:,} steps" in told


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Rows whose columns say nothing about clicks, and one column of which nothing is left."""
    folder = tmp_path_factory.mktemp("noise") / "encoded"
    return random_dataset(folder, rows=(600, 300, 300), cardinalities=(40, 1, 300))


def test_train_and_test_remark_on_a_worthless_model_and_on_why(noise, tmp_path, capsys):
    paths = [f"--dataset={noise.folder}", f"--log_path={tmp_path / 'log.json'}"]
    model = f"{tmp_path / 'model.safetensors'}"
    # Twenty passes over noise, learned by heart and judged at the end alone.
    settings = ["--preset=smoke", "--epochs=20", "--lr=0.1", "--embedding_decay=0", "--batch_size=60"]
    settings += ["--warmup_steps=1000", "--test_after=19", f"--save_checkpoint_path={model}"]
    assert main(["train", *settings, *paths]) == 0
    printed = capsys.readouterr()
    before = printed.err.splitlines()
    assert "remark: Training ends at step 200, within the warmup of 1,000: lr is never reached." in before
    (columns,) = (line for line in before if "categorical column" in line)
    assert columns.startswith("remark: 1 of 3 categorical columns (cat_1) tell the model nothing: all their")
    found = json.loads((tmp_path / "log.json").read_text().splitlines()[-1])["remarks"]
    for split in ("validation", "test"):
        assert any(remark.startswith(f"best and last model, {split}: no better than the base") for remark in found)
    for remark in found:
        assert f"remark: {remark}\n" in printed.out
    assert printed.out.endswith(f"saved: {model} (the best model, though no better than the base rate)\n")
    assert main(["test", "--preset=smoke", *paths, f"--load_checkpoint_path={model}"]) == 0
    tested = json.loads((tmp_path / "log.json").read_text().splitlines()[-1])
    assert tested["remarks"] == [line[8:] for line in capsys.readouterr().out.splitlines() if line[:8] == "remark: "]


def test_a_sound_model_is_kept_without_a_remark(tmp_path, capsys):
    data = random_dataset(
        tmp_path / "encoded",
        rows=(3000, 600, 600),
        cardinalities=(3, 20),
        click=lambda _, ids: np.where(ids[:, 0] == 1, 0.8, 0.2),
    )
    log = tmp_path / "log.json"
    paths = [f"--dataset={data.folder}", f"--log_path={log}", f"--save_checkpoint_path={tmp_path / 'm.safetensors'}"]
    assert main(["train", "--preset=smoke", *paths]) == 0
    printed = capsys.readouterr()
    assert "remark" not in printed.out + printed.err
    assert json.loads(log.read_text().splitlines()[-1])["remarks"] == []
    # Longer, by the same command: the schedule stretches, and says so.
    assert main(["train", "--preset=smoke", "--epochs=6", "--resume", *paths]) == 0
    assert "Resumed. The learning rate goes on at 0.00" in capsys.readouterr().err
