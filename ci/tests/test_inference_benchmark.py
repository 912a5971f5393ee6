"""The inference benchmark: what is timed, what is not, and what it says."""

from __future__ import annotations

import itertools
import json
import re
import time

import numpy as np
import pytest
import torch
from encoded import random_dataset

from dlrm_lib import benchmark
from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.benchmark import Latency, benchmark_inference, endless_batches
from dlrm_lib.config import Config
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.training import build, save_checkpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "encoded")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: Clock.now)
    return Clock


class Recorder(torch.nn.Module):
    """A model whose batches take 1, 2, 3 … seconds."""

    parts, negative_rate, among_all = None, 1.0, DLRM.among_all

    def __init__(self, clock):
        super().__init__()
        self.clock, self.batches, self.calls = clock, [], itertools.count(1)

    def tables(self, categorical):
        return categorical

    def dense(self, numerical, categorical, parts):
        self.clock.now += next(self.calls)
        self.batches.append((len(numerical), self.training, torch.is_inference_mode_enabled()))
        return numerical.sum(1)


def test_warmup_and_reading_are_not_in_the_times(dataset, clock):
    def slowly(batches):
        for batch in batches:
            clock.now += 1000
            yield batch

    model = Recorder(clock).train()
    batches = slowly(endless_batches(dataset.test, 64))
    latency = benchmark_inference(pick("cpu").inference(model), batches, steps=100, warmup=7)
    seconds = np.arange(8, 108)
    # Percentiles by hand: 100 values in order, so that the q-th lies 0.99 q steps of one second above the first.
    assert (latency.mean, latency.p50, latency.p95, latency.p99) == pytest.approx((57.5, 57.5, 102.05, 106.01))
    assert latency.mean == seconds.mean()
    assert (latency.batch_size, latency.steps, latency.throughput) == (64, 100, 64 / 57.5)
    assert model.batches == [(64, False, True)] * 107
    assert model.training


def test_the_way_to_the_device_and_the_wait_for_it_are_in_the_times(dataset, clock):
    device = pick("cpu")

    class Slow(type(device)):
        def put(self, batch):
            clock.now += 10
            return super().put(batch)

        def synchronize(self):
            clock.now += 100

    model = Recorder(clock)
    model.calls = itertools.repeat(1)
    latency = benchmark_inference(Slow().inference(model), endless_batches(dataset.test, 8), steps=5, warmup=0)
    assert (latency.mean, latency.p99) == (111.0, 111.0)  # one wait; that before the clock starts is not in it


def test_batches_are_whole_and_begin_again_after_the_last_row(dataset):
    rows = len(dataset.test)
    whole = dataset.test.read(0, rows)
    for size in (64, rows, 2 * rows + 3):
        batches = list(itertools.islice(endless_batches(dataset.test, size), 20))
        for part, expected in zip(zip(*batches, strict=True), whole, strict=True):
            assert {len(tensor) for tensor in part} == {size}
            assert torch.equal(torch.cat(part), expected[torch.arange(20 * size) % rows])


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no rows to measure with[\s\S]*--synthetic_dataset"):
        next(endless_batches(random_dataset(tmp_path / "encoded", rows=(10, 5, 0)).test, 4))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrix_products_run_in_the_precision_that_is_asked_for(dataset, precision, dtype):
    model = DLRM(dataset.spec, Config.from_preset("smoke").model)
    found = []
    model.top[0].register_forward_hook(lambda _module, _inputs, output: found.append(output.dtype))
    benchmark_inference(pick("cpu").inference(model, precision), endless_batches(dataset.test, 8), steps=2, warmup=1)
    assert found == [dtype] * 3


def test_real_times_add_up(dataset):
    model = DLRM(dataset.spec, Config.from_preset("smoke").model)
    began = time.perf_counter()
    latency = benchmark_inference(pick("cpu").inference(model), endless_batches(dataset.test, 16), steps=50, warmup=2)
    assert 0 < latency.mean * 50 < time.perf_counter() - began
    assert latency.p50 <= latency.p95 <= latency.p99


def test_one_time_is_its_own_percentile():
    assert Latency.of(4, [0.5]) == Latency(batch_size=4, steps=1, mean=0.5, p50=0.5, p95=0.5, p99=0.5, throughput=8.0)


def run(dataset, tmp_path, *flags):
    sizes = ["--inference_benchmark_batch_sizes=1,16", "--inference_benchmark_steps=3"]
    paths = [f"--dataset={dataset.folder}", f"--log_path={tmp_path / 'log.json'}"]
    assert main(["--mode=inference_benchmark", "--preset=smoke", *sizes, *paths, *flags]) == 0
    return [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]


def test_the_command_measures_each_size(dataset, tmp_path, capsys):
    config = Config.from_preset("smoke", {"top_mlp_sizes": "8,1"})
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build(config, dataset), metrics={})
    head, *latencies, result = run(dataset, tmp_path, f"--load_checkpoint_path={path}")
    assert (head["what"], head["config"]["model"]["top_mlp_sizes"]) == ("inference_benchmark", [8, 1])
    assert [(one["what"], one["batch_size"], one["steps"]) for one in latencies] == [
        ("latency", 1, 3),
        ("latency", 16, 3),
    ]
    for one in latencies:
        assert result[f"mean_inference_latency_batch_{one['batch_size']}"] == one["mean"]
        assert result[f"mean_inference_throughput_batch_{one['batch_size']}"] == one["throughput"]
        assert one["throughput"] == pytest.approx(one["batch_size"] / one["mean"])
    title, *lines = capsys.readouterr().out.splitlines()
    assert re.findall(r"mean|p50|p95|p99|rows/s", title) == ["mean", "p50", "p95", "p99", "rows/s"]
    for line, one in zip(lines, latencies, strict=True):
        shown = [float(word.replace(",", "")) for word in line.split()]
        seconds = [one[name] * 1e3 for name in ("mean", "p50", "p95", "p99")]
        assert shown == pytest.approx([one["batch_size"], *seconds, one["throughput"]], abs=0.51)


def test_without_a_checkpoint_the_weights_are_random_and_it_is_said(dataset, tmp_path, capsys):
    run(dataset, tmp_path)
    assert capsys.readouterr().out.startswith("No --load_checkpoint_path: random weights")


def test_random_batches_need_no_data_set(dataset, tmp_path):
    flags = ["--synthetic_dataset", "--synthetic_dataset_table_sizes=10,20", "--num_numerical_features=3"]
    *_, result = run(dataset, tmp_path, "--dataset=nowhere", *flags, "--num_indices_per_lookup=4")
    assert result["mean_inference_latency_batch_16"] > 0


def test_the_warmup_is_what_the_flag_says_and_never_too_little(dataset, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        benchmark,
        "benchmark_inference",
        lambda *_, steps, warmup, **__: asked.append((steps, warmup)) or Latency.of(1, [1.0]),
    )
    run(dataset, tmp_path, "--benchmark_warmup_steps=25")
    run(dataset, tmp_path)
    assert asked == [(3, 25)] * 2 + [(3, 10)] * 2
