"""The benches behind the results: the arithmetic of what they conclude, and that they train what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bench import command_line, cost, stability, time_to_auc
from bench.build import new_step, processor
from bench.workload import SGD
from encoded import random_dataset
from scipy import stats

from dlrm_lib import clean_timing
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.metrics.equivalence import distance, equivalence, t_critical, t_tail
from dlrm_lib.training import build, evaluate, fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows in whose first column ids differ in their click rate, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("data") / "encoded"
    random_dataset(
        folder, rows=(4000, 1000, 1000), cardinalities=(3, 20, 50), click=lambda _, ids: 0.1 + 0.8 * (ids[:, 0] == 0)
    )
    return folder


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """No test pins the cores of those that follow, or fails because the machine is busy."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(command_line.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(clean_timing, "WAITED", float("inf"))
    monkeypatch.setattr(clean_timing, "AWAY", 1.0)
    yield
    torch.set_num_threads(threads)


def test_memory_of_work_is_seen_although_it_is_given_back():
    before = cost.settled_memory()
    peak = cost.peak_memory(lambda: [np.ones(25_000_000).sum() for _ in range(3)])
    assert 190e6 < peak - before < 300e6
    assert cost.settled_memory() - before < 50e6


def test_memory_counts_what_the_optimizer_will_have_written():
    """One small batch touches next to nothing of what Adam remembers, which nevertheless is there."""
    workload, backend = cost.workload("table_rows", 1_000_000).trained_with(batch_size=4), processor()
    cost.imported(workload, backend)
    batches = [cost.RandomDataset(workload.spec).train.read(0, 4)]
    before = cost.settled_memory()
    found = cost.memory_of_steps(new_step(workload, backend), batches, before)
    everything = found["table_bytes"] + found["optimizer_bytes"]
    assert everything <= found["memory_bytes"] < 1.2 * everything


def test_points_that_need_more_memory_than_there_is_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(type(processor()), "free_memory", lambda self: 10**6)
    flags = ["--rows", "--table_rows", "100000", "--embedding_dim", "4", "--cores=1"]
    cost.main([f"--record={tmp_path / 'record.json'}", *flags])
    metrics = json.loads((tmp_path / "record.json").read_text())["metrics"]
    assert metrics == {"rows": [], "table_rows": [], "embedding_dim": []}
    assert capsys.readouterr().out.count("does not fit into the free memory") == 2


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The metrics of an uninterrupted measurement."""
    config = Config.from_preset("smoke", {"batch_size": 100, "epochs": 1, "decay_steps": 20})
    kept = tmp_path_factory.mktemp("kept") / "runs.json"
    settings = {"seeds": [3, 5], "precisions": ["fp32", "fp16"], "processes": 2, "kept": kept}
    return config, settings, stability.measure(config, folder, **settings)


def test_a_seed_decides_about_weights_and_order_in_every_precision_alike():
    found = [one.training for one in stability.configurations(Config.from_preset("smoke"), [3, 5], ["fp32", "fp16"])]
    assert [(one.seed, one.precision) for one in found] == [(3, "fp32"), (3, "fp16"), (5, "fp32"), (5, "fp16")]
    assert all(one.shuffle_batch_order for one in found)  # by the seed, see ShuffledBatches


def test_stability(whole):
    metrics = whole[2]
    assert [(run["seed"], run["precision"]) for run in metrics["runs"]] == [
        (3, "fp32"),
        (3, "fp16"),
        (5, "fp32"),
        (5, "fp16"),
    ]
    for run in metrics["runs"]:
        assert [point["step"] for point in run["curve"]] == list(range(4, 41, 4))
        best = max(run["curve"], key=lambda point: point["validation_auc"])
        assert run["best_step"] == best["step"]
        assert 0.5 < run["test_last"]["auc"] < 1
        assert (run["test_best"] == run["test_last"]) == (run["best_step"] == 40)
    aucs = [run["test_last"]["auc"] for run in metrics["runs"]]
    assert len(set(aucs)) == 4
    assert metrics["summary"]["fp16"]["test_last_auc"] == {
        "mean": pytest.approx((aucs[1] + aucs[3]) / 2),
        "sd": pytest.approx(abs(aucs[1] - aucs[3]) / 2**0.5),
        "low": min(aucs[1], aucs[3]),
        "high": max(aucs[1], aucs[3]),
        "seeds": 2,
    }
    found = metrics["equivalence"]["fp16"]
    assert found["difference"] == pytest.approx((aucs[1] - aucs[0] + aucs[3] - aucs[2]) / 2)
    assert (found["bound"], set(metrics["equivalence"])) == (0.001, {"fp16"})
    assert "fp16 less fp32: " in stability.report(metrics)


def test_stability_goes_on_where_it_was_interrupted(whole, folder, monkeypatch):
    config, settings, metrics = whole
    runs = json.loads(settings["kept"].read_text())
    assert len(runs) == 4
    *_, (lost, run) = runs.items()
    del runs[lost]
    changed = {key: {**one, "skipped_steps": 77} for key, one in runs.items()}  # to know them again
    settings["kept"].write_text(json.dumps(changed))
    again = stability.measure(config, folder, **settings)
    assert [one["skipped_steps"] for one in again["runs"]].count(77) == 3
    assert [{**one, "skipped_steps": 0} for one in again["runs"]] == metrics["runs"]
    assert json.loads(settings["kept"].read_text())[lost] == run
    # Runs of another configuration are not taken for these.
    settings = {**settings, "seeds": [3], "precisions": ["fp32"], "processes": 1}
    other = stability.measure(config.override(lr=0.02), folder, **settings)
    assert other["runs"][0]["skipped_steps"] == 0
    assert other["runs"][0]["test_last"] != metrics["runs"][0]["test_last"]
    assert other["equivalence"] == {}


def test_one_training_is_judged_in_fp32_whatever_it_trains_in(folder):
    """Against the library's own loop, whose evaluation is in the precision of the training."""
    config = Config.from_preset("smoke", {"batch_size": 100, "epochs": 1, "precision": "bf16", "seed": 3})
    threads = torch.get_num_threads()
    run = stability.one_run(config, folder)
    torch.set_num_threads(threads)
    torch.set_num_threads(1)
    training = build(config, EncodedDataset(folder), backend=processor())
    last = [*fit(training)][-1]
    scores = {
        precision: evaluate(
            training.backend.inference(training.model, precision), training.dataset.validation, batch_size=500
        )
        for precision in ("fp32", "bf16")
    }
    assert last.log_loss == pytest.approx(scores["bf16"].log_loss, abs=1e-9)
    assert run["curve"][-1]["validation_log_loss"] == pytest.approx(scores["fp32"].log_loss, abs=1e-9)
    assert scores["fp32"].log_loss != scores["bf16"].log_loss


def test_a_target_that_is_not_reached_has_no_seconds(folder, capsys, monkeypatch):
    monkeypatch.setitem(time_to_auc.PLAIN, "plain PyTorch, SGD", {**SGD, "lr": 1.0})
    how = {"target": 0.999, "every": 8, "seeds": [1]}
    metrics = time_to_auc.measure(EncodedDataset(folder), Config.from_preset("smoke"), processor(), **how)
    for run in metrics["runs"]:
        assert (run["reached"], run["seconds"], run["steps"]) == (0, None, None)
        assert 0.3 < run["best_auc"]["median"] < 0.999
    assert capsys.readouterr().out.count("never") == 15


@pytest.mark.parametrize("how", [{**SGD, "lr": 1.0}, {"optimizer": "adam", "lr": 0.01, "embedding_decay": 0.0}])
def test_the_plain_program_trains_the_same_model(folder, how):
    """With the same rule of update the AUCs after each few steps are those of the ordinary program."""
    more = {"batch_size": 100, "epochs": 2, "flag_missing": True, "shuffle_batch_order": True, "precision": "fp32"}
    config = Config.from_preset("smoke", {**how, **more})
    dataset, backend = EncodedDataset(folder), processor()
    own, peer = (
        [(moment.step, moment.auc) for moment in trains(dataset, config, backend, 16)]
        for trains in (time_to_auc.ours, time_to_auc.plain)
    )
    assert [step for step, _ in own] == [16, 32, 48, 64, 80]
    assert peer == [(step, pytest.approx(auc, abs=1e-4)) for step, auc in own]
    assert own[-1][1] > 0.6


def test_a_plain_training_that_diverges_ends(folder):
    config = Config.from_preset("smoke", {**SGD, "batch_size": 100, "lr": 1e9, "warmup_steps": 0})
    assert [*time_to_auc.plain(EncodedDataset(folder), config, processor(), 20)] == []


def test_the_first_moment_at_the_target_counts():
    moments = [time_to_auc.Moment(2, 0.5, 0.6), time_to_auc.Moment(4, 1.5, 0.8), time_to_auc.Moment(6, 3.0, 0.9)]
    assert time_to_auc.outcome(iter(moments), 0.8).reached == moments[1]
    found = time_to_auc.outcome(iter(moments), 0.95)
    assert (found.reached, found.best) == (None, 0.9)


@pytest.mark.parametrize("seed", range(5))
def test_equivalence_is_that_of_two_one_sided_tests(seed):
    """Against two t-tests of SciPy's."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.8, 0.001, (2, 16)) + np.array([[0.0], [0.0003 * seed]])
    differences = first - second
    low = stats.ttest_1samp(differences, -0.001, alternative="greater").pvalue
    high = stats.ttest_1samp(differences, 0.001, alternative="less").pvalue
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.9)
    found = equivalence(first.tolist(), second.tolist(), bound=0.001)
    assert found.p == pytest.approx(max(low, high), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert found.difference == pytest.approx(differences.mean())
    assert found.equivalent == (max(low, high) < 0.05) == (found.low > -0.001 and found.high < 0.001)
    assert distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)


def test_differences_without_spread_are_certain():
    assert equivalence([1.0, 2.0], [1.0, 2.0], bound=0.001)[-2:] == (0.0, True)
    assert equivalence([1.5, 2.5], [1.0, 2.0], bound=0.001)[-2:] == (1.0, False)


@pytest.mark.parametrize("freedom", [1, 2, 3, 15, 100])
def test_students_t(freedom):
    for t in (-20.0, -1.0, 0.0, 0.3, 2.0, 50.0):
        assert t_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-9)
    for tail in (0.4, 0.05, 0.001):
        assert t_critical(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom), rel=1e-9)


def test_stability_refuses_what_it_cannot_judge_or_go_on_with(folder, tmp_path):
    one_class = random_dataset(tmp_path / "encoded", click=lambda _, ids: np.zeros(len(ids)))
    settings = {"seeds": [1], "precisions": ["fp32"], "processes": 1, "kept": tmp_path / "kept.json"}
    config = Config.from_preset("smoke")
    with pytest.raises(InputError, match="no AUC"):
        stability.measure(config, one_class.folder, **settings)
    settings["kept"].write_text('{"half a')
    with pytest.raises(InputError, match=r"kept\.json is not what an interrupted run leaves"):
        stability.measure(config, folder, **settings)
