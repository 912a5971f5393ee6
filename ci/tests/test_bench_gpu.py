"""The GPU benchmarks without a GPU: their arithmetic, and that every stage runs to its end in a rehearsal."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from bench import gpu as gpu_bench
from bench.on_gpu import peer_build, roofline, sanitize, training
from bench.on_gpu.card import Card, StandIn, Timing
from bench.on_gpu.data import TERABYTE, TINY, draw, planted_logit, resident, unique_share, write_dataset
from bench.on_gpu.report import Part, Report
from scipy import stats

from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.metrics import auc
from dlrm_lib.metrics.equivalence import paired
from dlrm_lib.model import blueprint, training_cost

CEILINGS = {"copy": 3e12, "fp32": 5e13, "tf32": 4e14, "bf16": 8e14, "fp16": 8e14}


def gpu(checkout, *arguments, **environment):
    """The command as users give it, in a process of its own: what it imports depends on its arguments."""
    return subprocess.run(
        [sys.executable, str(checkout / "ci" / "bench" / "gpu.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("count", [2, 3, 10, 21])
def test_the_interval_is_students(count):
    torch.manual_seed(count)
    first, second = torch.randn(2, count, dtype=torch.float64).tolist()
    differences = [a - b for a, b in zip(first, second, strict=True)]
    expected = stats.t.interval(0.95, count - 1, statistics.fmean(differences), stats.sem(differences))
    found = paired(first, second)
    assert found[1:] == pytest.approx(expected, rel=1e-3)
    assert found.mean == pytest.approx(statistics.fmean(differences))
    assert found.within(max(map(abs, expected)) * 1.01)
    assert not found.within(max(map(abs, expected)) * 0.99)
    assert not paired([1.0, 1.1], [0.0, 0.1])._replace(low=0.0).within(0.5)  # one end is not enough


def test_a_timing_as_rates():
    timing = Timing((0.5, 0.25, 1.0))
    assert timing.as_rates(100) == {"median": 200.0, "low": 100.0, "high": 400.0, "repeats": 3}
    assert timing.spread == 1.5
    assert training.share(timing) == "±75.0 %"


def test_contestants_are_timed_in_turn_on_inputs_in_rotation():
    card, seen = StandIn(), []
    timings = card.in_turn({name: lambda number, name=name: seen.append((name, number)) for name in "ab"})
    assert {len(timing.seconds) for timing in timings.values()} == {card.repeats}
    for name in "ab":
        # Each segment counts up from 0, after one call to bring weights back into the caches.
        numbers = [number for who, number in seen if who == name]
        starts = [at for at, number in enumerate(numbers) if number == 0]
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            assert numbers[start:end] == list(range(end - start))
    # After the first looks at each, segments alternate, each time another one first.
    turns = [who for (who, _), (before, _) in zip(seen[1:], seen, strict=False) if who != before]
    assert turns == ["b", "a", "b", "a"]


def test_the_state_of_a_card_is_read_from_nvidia_smi(monkeypatch, tmp_path):
    script = "#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 580.1, 81559, 3, 345, 2619, 1980, 2619, 71.25, 700.00, [N/A]'\n"
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    card = Card.__new__(Card)
    card.backend = StandIn().backend
    state = card.state()
    assert (state["name"], state["memory.total"], state["clocks.max.sm"]) == ("NVIDIA H100 80GB HBM3", 81559, 1980)
    assert (state["power.draw"], state["temperature.gpu"]) == (71.25, "[N/A]")


@pytest.mark.parametrize("embed_numbers", [False, True])
def test_kernels_move_what_a_loop_over_a_batch_counts(embed_numbers):
    spec, model = TINY.spec, replace(TINY.model, embed_numbers=embed_numbers)
    rows = 6
    batch = draw(spec, rows)
    size, dim, columns = 2, model.embedding_dim, len(spec.cardinalities)
    vectors = columns + 1 + spec.numerical * embed_numbers
    width = dim + vectors * (vectors - 1) // 2 + 1
    read = {name: 0 for name in ("lookup", "interaction forward", "interaction backward", "embedding update")}
    flops = dict(read)
    met = set()
    for row in batch.categorical.tolist():
        for column, number in enumerate(row):
            new = (column, number) not in met
            met.add((column, number))
            read["lookup"] += 4 + dim * 4 * new + dim * size
            read["embedding update"] += 4 + dim * size + 2 * dim * 4 * new
            flops["embedding update"] += 2 * dim
        read["interaction forward"] += vectors * dim * size + width * size
        read["interaction backward"] += width * size + 2 * vectors * dim * size
        flops["interaction forward"] += 2 * vectors * vectors * dim
        flops["interaction backward"] += 2 * vectors * vectors * dim
    distinct = unique_share(spec, batch)
    assert distinct == len(met) / batch.categorical.numel()
    costs = roofline.kernel_costs(blueprint(spec, model), distinct=distinct, number_bytes=size)
    assert {name: cost.bytes * rows for name, cost in costs.items()} == pytest.approx(read)
    assert {name: cost.flops * rows for name, cost in costs.items()} == pytest.approx(flops)


def test_the_ceiling_is_the_sum_of_what_bounds_each_part():
    model = blueprint(TERABYTE.spec, TERABYTE.model)
    for precision in ("fp16", "fp32"):
        parts = training_cost(model, distinct=0.15, number_bytes=2 if precision == "fp16" else 4)
        seconds = sum(max(part.flops / CEILINGS[precision], part.bytes / 3e12) for part in parts.values())
        found = roofline.step_ceiling(model, distinct=0.15, precision=precision, ceilings=CEILINGS)
        assert found == pytest.approx(1 / seconds)
    assert 1e6 < found < 1e7  # fp32 is bound by arithmetic: 14.6 MFLOP at 50 TFLOP/s


def test_the_sizes_are_nvidias():
    assert len(TERABYTE.spec.cardinalities) == 26
    assert sum(TERABYTE.spec.cardinalities) * 128 * 4 == pytest.approx(16.7e9, rel=0.01)
    assert Card.batch_sizes == (65536, 32768)
    assert Card.distinct >= 32
    assert TERABYTE.capped(1000).spec.cardinalities[:2] == (1000, 1000)


def test_the_planted_signal_can_be_learned_and_ids_follow_their_law():
    spec = FeatureSpec(numerical=4, cardinalities=(3, 50, 7, 400))
    for ids in ("zipf", "uniform"):
        rows = draw(spec, 20_000, ids=ids)
        assert auc(rows.label.numpy().astype(bool), planted_logit(*rows[:2]).numpy()) > 0.65
        assert rows.categorical.min() == 0
        assert rows.categorical.amax(0).tolist() == [2, 49, 6, 399]
        share = (rows.categorical[:, 3] == 0).float().mean().item()
        assert share == pytest.approx(0.1157 if ids == "zipf" else 0.0025, abs=0.01)
        assert torch.equal(rows.categorical, draw.__wrapped__(spec, 20_000, ids=ids).categorical)
    batches = resident(StandIn(), TINY, 5)
    assert len(batches) == StandIn.distinct
    assert not torch.equal(batches[0].numerical, batches[1].numerical)


def test_the_written_data_set_holds_the_rows(tmp_path):
    rows = draw(TINY.spec, 9)
    dataset = write_dataset(tmp_path / "rows", TINY.spec, rows, times=2)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (18, 0, 0)
    read = dataset.train.read(9, 18)
    assert torch.equal(read.categorical, rows.categorical)
    assert torch.equal(read.label, rows.label)
    assert torch.allclose(read.numerical, rows.numerical, atol=1e-3)


def test_all_ways_to_train_do_the_same():
    torch.manual_seed(0)
    card, losses = StandIn(), {}
    batches, work = resident(card, TINY, 5), TINY.trained_with(batch_size=5, precision="fp32")
    for name in ("plain", "rows leaf", "fused", "graph"):  # with a stand-in, compiled is the same as graph
        trained = training.Trained(training.LADDER[name](card, work), batches)
        losses[name] = [trained.first, trained.a_pass()]
        assert losses[name][1] < losses[name][0]
    for name in losses:
        assert losses[name] == pytest.approx(losses["plain"], abs=1e-5), name


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n", 0),
        ("========= Invalid __global__ read\n========= ERROR SUMMARY: 1 error\n", 1),
        ("========= ERROR SUMMARY: 12 errors\n", 12),
        ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", 0),
        ("========= RACECHECK SUMMARY: 3 hazards displayed (3 errors, 0 warnings)\n", 3),
        ("========= Target application terminated before first instrumented API call\n", None),
    ],
)
def test_what_the_sanitizer_says(output, found):
    assert sanitize.errors(output) == found


def test_without_the_sanitizer_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(InputError, match="compute-sanitizer is not installed here"):
        sanitize.sanitizer()
    with pytest.raises(InputError, match="there is no nvcc"):
        peer_build.compile_command("fused_embedding", tmp_path, tmp_path, "90")


def test_the_peer_is_compiled_for_the_card_that_is_here(monkeypatch, tmp_path):
    (tmp_path / "nvcc").write_text("")
    (tmp_path / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    headers = tmp_path / "site-packages/nvidia/cu13/include"
    headers.mkdir(parents=True)
    command = peer_build.compile_command(
        "interaction_ampere", tmp_path / "theirs", tmp_path / "out", "90", tmp_path / "site-packages/torch"
    )
    assert "arch=compute_90,code=sm_90" in command
    assert not any("sm_70" in word for word in command)
    assert f"-I{headers}" in command
    assert f"{tmp_path}/theirs/dlrm/cuda_src/dot_based_interact_ampere/pytorch_ops.cpp" in command
    assert command[command.index("-o") + 1] == f"{tmp_path}/out/interaction_ampere.so"


class Unreal(StandIn):
    """A stand-in that writes records."""

    rehearsal = False


def test_a_record_is_written_after_each_part_and_added_to(tmp_path, capsys):
    def fails(card, report):
        report.check("something", False, "3 of 4")

    def breaks(card, report):
        report.keep("broken", before=1)
        raise ValueError("out of luck\nwith details")

    parts = {
        "broken": Part(1, breaks),
        "long": Part(10_000, breaks),
        "good": Part(1, lambda card, report: report.keep("good", rate=[1.0, 2.0])),
        "bad": Part(1, fails),
    }
    report = Report("speed", Unreal(), tmp_path)
    report.run(parts)
    assert report.failed == ["broken ran to its end", "something"]
    table = report.table()
    assert "left out: 4" in table
    assert "ValueError: out of luck" in table
    assert table.endswith("2 failed: broken ran to its end; something")
    record = json.loads((tmp_path / "gpu_speed.json").read_text())
    assert record.keys() == {"what", "config", "hardware", "versions", "command", "date", "metrics"}
    assert record["metrics"].keys() == {"broken", "good", "bad"}
    assert record["config"]["spec"]["cardinalities"] == list(TERABYTE.spec.cardinalities)
    assert record["config"]["model"]["embedding_dim"] == 128
    assert record["config"]["batch_sizes"] == list(StandIn.batch_sizes)
    assert record["metrics"]["good"]["rate"] == [1.0, 2.0]
    assert record["metrics"]["bad"]["failed"] == ["something"]
    later = Report("speed", Unreal(), tmp_path)
    later.run(parts | {"bad": Part(1, lambda card, report: report.keep("bad", fine=True))}, ["bad"])
    metrics = json.loads((tmp_path / "gpu_speed.json").read_text())["metrics"]
    assert metrics["good"]["rate"] == [1.0, 2.0]
    assert (metrics["bad"]["failed"], metrics["bad"]["fine"]) == ([], True)
    # Of another machine nothing is kept.
    (tmp_path / "gpu_speed.json").write_text(json.dumps(record | {"versions": {"torch": "1.0"}}))
    Report("speed", Unreal(), tmp_path).run(parts, ["good"])
    assert json.loads((tmp_path / "gpu_speed.json").read_text())["metrics"].keys() == {"good"}


@pytest.mark.parametrize("stage", ["correctness", "speed", "sanitize"])
def test_a_stage_can_be_rehearsed_and_writes_no_record(stage, checkout, tmp_path):
    done = gpu(checkout, "--stage", stage, "--rehearse", "--record", str(tmp_path), TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "REHEARSAL, NOT A MEASUREMENT: nothing failed"
    assert not list(tmp_path.iterdir())


FAKE_PEER = """
import torch

class Tables(torch.nn.Module):
    def __init__(self, sizes, dim):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(sum(sizes), dim))
        self.register_buffer("offsets", torch.tensor([0, *sizes]).cumsum(0)[:-1])

    def load_weights(self, weights):
        self.weight.data = torch.cat(list(weights))

class Layers(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        pairs = zip(sizes, sizes[1:])
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairs)

    weights = property(lambda self: [layer.weight for layer in self.layers])
    biases = property(lambda self: [layer.bias for layer in self.layers])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x

class DistributedDlrm(torch.nn.Module):
    def __init__(self, num_numerical_features, categorical_feature_sizes, bottom_mlp_sizes, top_mlp_sizes,
                 embedding_dim, **settings):
        super().__init__()
        vectors = len(categorical_feature_sizes) + 1
        width = embedding_dim + vectors * (vectors - 1) // 2
        width += -width % 8
        self.bottom_model, self.top_model = torch.nn.Module(), torch.nn.Module()
        self.bottom_model.embeddings = Tables(categorical_feature_sizes, embedding_dim)
        self.bottom_model.mlp = Layers([num_numerical_features, *bottom_mlp_sizes])
        self.top_model.mlp = Layers([width, *top_mlp_sizes[:-1]])
        self.top_model.out = torch.nn.Linear(*top_mlp_sizes[-2:])

    def forward(self, numerical, categorical):
        tables = self.bottom_model.embeddings
        bottom = self.bottom_model.mlp(numerical)
        vectors = torch.cat([bottom.unsqueeze(1), tables.weight[categorical + tables.offsets].to(bottom.dtype)], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        pairs = [products[:, i, j] for i in range(vectors.shape[1]) for j in range(i)]
        features = torch.cat([bottom, torch.stack(pairs, 1)], 1)
        features = torch.nn.functional.pad(features, (0, -features.shape[1] % 8))
        return self.top_model.out(self.top_model.mlp(features))
"""


def test_the_peer_is_compared_from_the_same_weights(checkout, tmp_path):
    package = tmp_path / "PyTorch/Recommendation/DLRM/dlrm"
    for folder in (package, package / "model", package / "cuda_ext"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("")
    (package / "model/distributed.py").write_text(FAKE_PEER)
    done = gpu(checkout, "--stage", "peer", "--rehearse", "--peer", str(tmp_path), "--parts", "amp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    the same losses from the same weights, fp16 5" in done.stdout
    assert "theirs: apex is a stub" in done.stdout
    (package / "model/distributed.py").write_text(
        FAKE_PEER.replace("return self.top_model", "return 1 + self.top_model")
    )
    done = gpu(checkout, "--stage", "peer", "--rehearse", "--peer", str(tmp_path), "--parts", "tf32")
    assert done.returncode == 1
    assert "FAIL  the same losses from the same weights" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("stage", ["correctness", "speed", "sanitize"])
def test_without_a_gpu_one_sentence(stage, capsys):
    assert gpu_bench.main(["--stage", stage]) == 2
    said = capsys.readouterr().err
    assert said.startswith("This benchmark needs an NVIDIA GPU, and torch finds none.\n")
    assert "--rehearse" in said


def test_bad_arguments_end_in_a_sentence(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        (["--stage", "peer", "--rehearse"], "--stage peer needs NVIDIA's trainer"),
        (["--stage", "peer", "--rehearse", "--peer", str(tmp_path)], "--stage peer needs NVIDIA's trainer"),
        (["--stage", "speed", "--rehearse", "--parts", "nosuch"], "has no such part"),
        (["--stage", "speed", "--rehearse", "--record", str(tmp_path / "file")], "--record must name a folder"),
        (["--stage", "speed", "--rehearse", "--record", str(tmp_path / "file" / "more")], "file is no folder"),
    ):
        assert gpu_bench.main(arguments) == 2
        assert sentence in capsys.readouterr().err
