"""What the benchmark of training compares with trains as the library does, and what it times is clean."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys

import pytest
import set_up
import torch
from bench import train_cpu
from bench.build import new_model, processor
from bench.train_cpu import WORKLOADS, compare, contestants, ours
from bench.train_peers import linears, plain, tables_of, torchrec, torchrec_is_installed
from bench.workload import LAPTOP_ROWS, MOST_ROWS, SGD, Workload, of_preset, random_batches

from dlrm_lib import clean_timing
from dlrm_lib.clean_timing import Times, in_turn, laps, quartiles, ratios
from dlrm_lib.config import PRESETS, Config, ModelConfig, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec

pytestmark = [
    # torch.optim.Adagrad on sparse gradients makes torch say so.
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning"),
    # FBGEMM imports modules of its own that it has renamed, and some that are not in the package for CPUs.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:fbgemm_gpu"),
]

# Small tables, so that ids repeat within a batch.
SPEC = FeatureSpec(numerical=4, cardinalities=(3, 50, 7, 400))
HOW = {"batch_size": 64, "precision": "fp32", "execution": "eager"}


def small(optimizer: str = "sgd", **model) -> Workload:
    return Workload(
        spec=SPEC,
        model=ModelConfig(embedding_dim=8, bottom_mlp_sizes=(16, 8), top_mlp_sizes=(16, 8, 1), **model),
        training=TrainingConfig(optimizer=optimizer, lr=0.3 if optimizer == "sgd" else 0.05, **HOW),
    )


@pytest.fixture(autouse=True)
def _one_thread():
    """Small batches gain nothing from two, and wait for each other where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = {
    "dot": small(),
    "dot, Adagrad": small("adagrad"),
    "cat": small(interaction_op="cat"),
    "cat, Adagrad, bags": small("adagrad", interaction_op="cat", num_indices_per_lookup=3),
    # Every other setting of a model, one or more at a time.
    "flags": small(flag_missing=True, standardise=True),
    "vectors of numbers": small(embed_numbers=True, embedding_init=0.1),
    "linear": small("adagrad", linear=True, embed_numbers=True),
    "cat, linear": small(linear=True, embed_numbers=True, interaction_op="cat"),
    "self-interaction": small(self_interaction=True),
    "hashed": small(hash_indices=True, max_table_size=30),
}
# What no peer has.
REFUSED = {"dcn": small(interaction_op="dcn", cross_layers=2, cross_rank=4)}
PEERS = {"plain": plain, "dense": functools.partial(plain, sparse=False), "torchrec": torchrec}


def losses_of_peer(peer: str, workload: Workload, steps: int = 20) -> list[float]:
    if peer == "torchrec" and not torchrec_is_installed():
        pytest.skip("TorchRec is not installed: python ci/bench/train_cpu.py --set_up_peers")
    model = new_model(workload, processor(), seed=3)
    step = PEERS[peer](model, workload.model, workload.training, batches_of(workload))
    return [step(number).item() for number in range(steps)]


def batches_of(workload: Workload):
    """Random batches whose numbers spread as encoded ones do, every fifth of them missing."""
    spread = [batch.numerical * 5 - 1 for batch in random_batches(workload)]
    missing = torch.tensor(workload.spec.missing_numbers)
    return [
        batch._replace(numerical=torch.where(numbers < 0, missing, numbers))
        for batch, numbers in zip(random_batches(workload), spread, strict=True)
    ]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", SMALL)
def test_a_peer_trains_as_the_library_does(case, peer):
    workload = SMALL[case]
    step = ours(workload, batches_of(workload), seed=3)
    expected = [step(number).item() for number in range(20)]
    assert expected[-1] < 0.97 * expected[0]  # so that updates matter
    if case == "self-interaction" and peer == "torchrec" and torchrec_is_installed():
        with pytest.raises(InputError, match="TorchRec has no such interaction"):
            losses_of_peer(peer, workload)
        return
    assert losses_of_peer(peer, workload) == pytest.approx(expected, abs=1e-4)


def test_every_setting_of_a_model_is_among_the_cases():
    """A setting that is new must say here what the peers do with it."""
    usual = vars(ModelConfig())
    cases = [*SMALL.values(), *REFUSED.values()]
    changed = {name for of in cases for name, value in vars(of.model).items() if value != usual[name]}
    assert changed == usual.keys()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_peers_can_train_the_model_of_any_preset(preset, capsys):
    sizes = {"embedding_dim": 8, "bottom_mlp_sizes": (16, 8), "top_mlp_sizes": (16, 1), "num_numerical_features": 4}
    optimizer = SGD if Config.from_preset(preset).training.optimizer == "adam" else {}
    workload = of_preset(preset, batch_size=32, lr=0.01, **sizes, **optimizer).capped(40)
    found = contestants(workload, batches_of(workload), ["dense", "torchrec", "ours-fp32"])
    several = Config.from_preset(preset).model.num_indices_per_lookup > 1
    expected = {"plain", "ours-fp32", *([] if several else ["dense"])}
    assert found.keys() == expected | ({"torchrec"} if torchrec_is_installed() else set())
    assert "left out" not in capsys.readouterr().out


def test_the_workloads_are_those_of_their_presets():
    for name, preset in {"N": "criteo_terabyte", "S": "laptop", "H": "gaudi_medium"}.items():
        assert WORKLOADS[name].model == Config.from_preset(preset).for_rows(LAPTOP_ROWS).model
    assert WORKLOADS["H"].training == Config.from_preset("gaudi_medium").training
    assert (WORKLOADS["S"].training.batch_size, WORKLOADS["S"].training.warmup_steps) == (2048, 432)
    assert (WORKLOADS["H"].spec.numerical, WORKLOADS["H"].spec.cardinalities) == (1024, (3_000_000,))
    expected = tuple(min(rows, MOST_ROWS) for rows in CRITEO_TERABYTE.cardinalities)
    assert (WORKLOADS["N"].spec.cardinalities, WORKLOADS["N"].training.batch_size) == (expected, 2048)
    assert {name: WORKLOADS[name].training.optimizer for name in "NSH"} == {"N": "sgd", "S": "sgd", "H": "adagrad"}


def test_a_peer_says_what_it_cannot_do():
    workload = SMALL["dot"]
    model, batches = new_model(workload, processor()), random_batches(workload)
    with pytest.raises(InputError, match=r"Torch has no such optimizer with sparse gradients\.\n  found: adam"):
        plain(model, workload.model, TrainingConfig(optimizer="adam"), batches)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", REFUSED)
def test_a_peer_refuses_an_interaction_that_it_does_not_have(case, peer):
    workload = REFUSED[case]
    model, batches = new_model(workload, processor()), random_batches(workload)
    with pytest.raises(InputError, match=rf"has no such interaction\.\n  found: {workload.model.interaction_op}"):
        PEERS[peer](model, workload.model, workload.training, batches)


@pytest.mark.parametrize("peer", ["plain", "torchrec"])
def test_bags_are_summed_and_their_ids_all_trained(peer):
    """Against a float64 program that sums the rows of one table by hand."""
    workload = SMALL["cat, Adagrad, bags"]
    model, batches = new_model(workload, processor(), seed=3), batches_of(workload)
    tables = [table.double().requires_grad_() for table in tables_of(model)]
    layers = [layer.double() for layer in (*linears(model.bottom), *linears(model.top))]
    optimizer = torch.optim.Adagrad([*tables, *(p for layer in layers for p in layer.parameters())], lr=0.05)
    expected = []
    for number in range(20):
        numerical, ids, label = batches[number % len(batches)]
        x = numerical.double()
        for layer in layers[:2]:
            x = layer(x).relu()
        x = torch.cat([x, *(table[ids[:, j].long()].sum(dim=1) for j, table in enumerate(tables))], dim=1)
        for layer in layers[2:-1]:
            x = layer(x).relu()
        probability = layers[-1](x).squeeze(1).sigmoid()
        loss = -torch.where(label == 1, probability, 1 - probability).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses_of_peer(peer, workload) == pytest.approx(expected, abs=1e-4)


def test_ids_follow_zipfs_law_and_stay_within_their_tables():
    ids = torch.cat([batch.categorical for batch in random_batches(SMALL["dot"])])
    for column, rows in zip(ids.unbind(1), SPEC.cardinalities, strict=True):
        assert column.min() == 0
        assert column.max() < rows
    # Id k has a share of log((k + 2) / (k + 1)) / log(rows).
    assert (ids[:, 3] == 0).float().mean() == pytest.approx(0.1157, abs=0.04)
    assert (ids[:, 3] < 19).float().mean() == pytest.approx(0.5, abs=0.06)


def test_the_table_compares_with_plain_and_with_torchrec_within_each_round(monkeypatch, capsys):
    seconds = {"plain": [0.4, 0.4, 0.8], "dense": [0.8, None, 1.6], "torchrec": [0.1, 0.1, 0.1]}

    def timed(found, *, rounds, **_):
        for name in seconds:
            found.setdefault(name, None)
        return {name: Times(seconds.get(name, [0.1, 0.2, 0.2]), dropped=len(name)) for name in found}

    monkeypatch.setattr(train_cpu, "in_turn", timed)
    results = compare(SMALL["dot"], rounds=3)
    assert {"plain", "dense", "torchrec", *train_cpu.OURS} >= results.keys() >= {"plain", "dense", "ours-fp32-compiled"}
    assert results["ours-fp32"] == {
        "samples_per_s": (320.0, 320.0, 480.0),
        "times_plain": (3.0, 4.0, 4.0),
        "times_torchrec": (0.5, 0.5, 0.75),
        "clean_segments": 3,
        "dropped_segments": 9,
    }
    assert results["dense"]["times_plain"] == (0.5, 0.5, 0.5)
    printed = capsys.readouterr().out
    assert re.search(r"^ours-fp32 +320 +4\.00 +\(3\.00 to 4\.00\) +0\.50 +9$", printed, re.MULTILINE)


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch):
    workload = SMALL["dot"]

    def wrong(*workload, sparse=True):
        step = plain(*workload, sparse=sparse)
        return step if sparse else lambda number: 1.01 * step(number)

    monkeypatch.setattr(train_cpu, "plain", wrong)
    with pytest.raises(SystemExit, match="dense begins at a loss of"):
        contestants(workload, random_batches(workload), ["dense"])
    assert list(contestants(workload, random_batches(workload), ["ours-fp32"])) == ["plain", "ours-fp32"]


def test_segments_that_are_not_clean_are_measured_again(monkeypatch):
    outcomes = {"a": iter([True, True, True]), "b": iter([False, False, True, *[False] * clean_timing.TRIES, True])}
    duration = {"a": 0.2, "b": 0.1}
    calls = []

    def segment(step, steps, settle):
        calls.append(step)
        if len(calls) <= 5:  # two looks at a and three at b find out how many steps make a segment
            return duration[step], True
        return duration[step] * (1 + 0.1 * len(calls)), next(outcomes[step])

    class Name(str):
        def __call__(self, number):
            return None

    monkeypatch.setattr(clean_timing, "_segment", segment)
    times = in_turn({"a": Name("a"), "b": Name("b")}, rounds=3)
    assert calls[5:] == ["a", "b", "b", "b", *["b"] * clean_timing.TRIES, "a", "a", "b"]
    assert times["b"].seconds[1] is None
    assert times["b"].dropped == 2 + clean_timing.TRIES
    assert times["a"].dropped == 0
    assert ratios(times["a"], times["b"]) == [
        times["a"].seconds[0] / times["b"].seconds[0],
        times["a"].seconds[2] / times["b"].seconds[2],
    ]


def test_laps_are_timed_until_all_that_was_begun_is_done(monkeypatch):
    clock, now = [0.0], []
    monkeypatch.setattr(clean_timing.time, "perf_counter", lambda: clock[0])

    def work():
        for name, seconds in {"gather": 1.0, "forward": 4.0}.items():
            clock[0] += seconds
            yield name

    def settle():
        clock[0] += 0.5
        now.append(clock[0])

    assert laps(work(), settle) == {"gather": 1.5, "forward": 4.5}
    assert now == [1.5, 6.0]


def test_quartiles_need_two_values():
    assert quartiles([3.0]) is None
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)
    assert ratios(Times([None, 2.0]), Times([1.0, 4.0])) == [0.5]


def test_a_segment_that_shares_its_core_is_not_clean(checkout):
    code = (
        "import os, subprocess, sys, time\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from dlrm_lib.clean_timing import _segment\n"
        "other = subprocess.Popen([sys.executable, '-c', 'print(1, flush=True)\\nwhile True: pass'], stdout=-1)\n"
        "other.stdout.readline()\n"
        "def step(number):\n"
        "    end = time.perf_counter() + 0.3\n"
        "    while time.perf_counter() < end: pass\n"
        "shared = _segment(step, 1)[1]\n"
        "other.kill()\n"
        "print(shared, _segment(lambda number: time.sleep(0.05), 2)[1])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout / "ci")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]  # nor is one that does not compute


def test_the_peers_are_pinned_and_bring_no_torch_of_their_own(checkout, tmp_path):
    pins = (checkout / "ci" / "peers.txt").read_text()
    names = re.findall(r"^([\w-]+)==[\d.]+$", pins, re.MULTILINE)
    assert len(names) == sum(not line.startswith("#") for line in pins.splitlines())
    assert {"torchrec", "fbgemm-gpu-cpu"} <= set(names)
    assert not {"torch", "numpy"} & set(names)
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "peers.txt").write_text(pins)
    (tmp_path / "pyproject.toml").touch()
    asked = []

    def run(command, sentence):
        asked.append(command)
        (tmp_path / ".venv-peers" / "bin").mkdir(parents=True, exist_ok=True)

    assert set_up.set_up_peers(tmp_path, run=run)
    assert asked[-1][-3:] == ["--no-deps", "-r", str(tmp_path / "ci" / "peers.txt")]
