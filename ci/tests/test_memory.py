"""Memory is asked for before the work: how much there is, how much is needed, and the sentence where that is more."""

from __future__ import annotations

import errno
import json
import re
import resource
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from encoded import random_dataset as encoded_dataset

from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.config import Config
from dlrm_lib.dataset import RandomDataset, random_dataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec
from dlrm_lib.lab.run import Run
from dlrm_lib.memory import available_memory, in_bytes, shortage
from dlrm_lib.training import Results, build, load_checkpoint, load_state, save_checkpoint, save_state
from dlrm_lib.training.needs import check_memory

CPU = pick("cpu")
MIB = 2**20


def system(root, **files):
    """A file system with files of those contents, ``__`` for a slash."""
    for name, text in {"proc__meminfo": f"MemTotal: 9 kB\nMemAvailable:   {1000 * 1024} kB\n", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_the_machine_has_free(tmp_path):
    assert available_memory(system(tmp_path)) == 1000 * MIB
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\n")  # a kernel of long ago
    assert available_memory(tmp_path) is None


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/job", {f"{V2}/job/memory.max": 600 * MIB, f"{V2}/job/memory.current": 100 * MIB}, 500),
        ("0::/job", {f"{V2}/job/memory.max": "max", f"{V2}/job/memory.current": 100 * MIB}, 1000),
        # The group above is the narrower one; what was read from files can be dropped.
        (
            "0::/user/job",
            {
                f"{V2}/user/job/memory.max": 900 * MIB,
                f"{V2}/user/job/memory.current": 100 * MIB,
                f"{V2}/user/memory.max": 700 * MIB,
                f"{V2}/user/memory.current": 650 * MIB,
                f"{V2}/user/memory.stat": f"anon {MIB}\nactive_file {200 * MIB}\ninactive_file {50 * MIB}\n",
            },
            300,
        ),
        # A container sees its own group as the root, under a name that the host gave it.
        ("0::/docker/0a1b", {f"{V2}/memory.max": 300 * MIB, f"{V2}/memory.current": 100 * MIB}, 200),
        (
            "9:cpu:/\n4:memory:/docker/0a1b\n0::/",
            {
                f"{V1}/memory.limit_in_bytes": 500 * MIB,
                f"{V1}/memory.usage_in_bytes": 450 * MIB,
                f"{V1}/memory.stat": f"inactive_file 1\ntotal_inactive_file {20 * MIB}\ntotal_active_file {10 * MIB}\n",
            },
            80,
        ),
        ("4:memory:/", {f"{V1}/memory.limit_in_bytes": 2**63 - 4096, f"{V1}/memory.usage_in_bytes": MIB}, 1000),
        ("0::/job", {f"{V2}/job/memory.max": 100 * MIB, f"{V2}/job/memory.current": 101 * MIB}, 0),
    ],
)
def test_what_control_groups_leave(tmp_path, groups, files, left):
    named = {name.replace("/", "__"): str(text) for name, text in files.items()}
    assert available_memory(system(tmp_path, proc__self__cgroup=groups, **named)) == left * MIB


def test_what_the_limits_of_the_process_leave(tmp_path, monkeypatch):
    limits = {resource.RLIMIT_AS: (resource.RLIM_INFINITY,) * 2, resource.RLIMIT_DATA: (300 * MIB, 400 * MIB)}
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    taken = system(tmp_path, proc__self__status=f"VmSize:\t{5 * 1024} kB\nVmData:\t {100 * 1024} kB\n")
    assert available_memory(taken) == 200 * MIB
    limits[resource.RLIMIT_AS] = (105 * MIB, 105 * MIB)
    assert available_memory(taken) == 100 * MIB


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**45),
        lambda: np.empty(2**45),
        lambda: bytearray(2**60),
        lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")),
        lambda: (_ for _ in ()).throw(RuntimeError("std::bad_alloc")),
    ],
)
def test_what_lacks_memory_all_the_same_ends_in_a_sentence(monkeypatch, capsys, allocate):
    arguments = SimpleNamespace(run=lambda _: allocate())
    monkeypatch.setattr("dlrm_lib.commands.parser.parse_arguments", lambda argv: arguments)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert re.match(r"There is not enough memory[^\n]*\n  found: [^\n]+ free now\)\n  remedy: [^\n]+\n$", error), error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), OSError(errno.EIO, "broken"), KeyError("memory")]
)
def test_other_errors_stay_what_they_are(error):
    assert shortage(error) is None


SMALL = {"max_steps": 2, "epochs": 1, "test_batch_size": 512, "warmup_steps": 0}
MANY_ROWS = {"batch_size": 16384, "test_freq": 100}


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "execution": "compile"},
        pytest.param({"optimizer": "rowwise_adagrad"}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", **MANY_ROWS}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adagrad", "num_indices_per_lookup": 8, **MANY_ROWS}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", "interaction_op": "dcn", **MANY_ROWS}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adam", "embed_numbers": True, **MANY_ROWS}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", "test_batch_size": 32768}, marks=pytest.mark.slow),
    ],
)
def test_a_training_takes_about_what_was_reckoned(tmp_path, settings):
    """In a process of its own, by the kernel's account: evaluation and the writing of a state included."""
    settings = {**SMALL, **settings, "preset": "smoke"}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, json.dumps(settings), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    taken, reckoned = map(int, done.stdout.split())
    assert 0.75 * taken < reckoned < 1.25 * taken


_MEASURED = """
import json, re, sys
from pathlib import Path

from dlrm_lib.config import Config
from dlrm_lib.process import prepare

settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
config = Config.from_preset(settings.pop("preset"), settings)
prepare(config)

from dlrm_lib.dataset import RandomDataset
from dlrm_lib.features import FeatureSpec
from dlrm_lib.training import Results, build, fit, save_state
from dlrm_lib.training.needs import training_needs

most = config.model.num_indices_per_lookup
spec = FeatureSpec(numerical=13, cardinalities=(60_000,) * 20)
dataset = RandomDataset(spec, train_rows=10**6, validation_rows=40_000, test_rows=0, indices_per_lookup=most)
for split in (dataset.train, dataset.validation):
    split.read(0, 1)


def kilobytes(name):
    return int(re.search(rf"^{name}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
training = build(config, dataset)
list(fit(training))
save_state(folder / "s.safetensors", training, Results())
taken = kilobytes("VmHWM") - before
print(taken * 1024, training_needs(training.model, training.settings, rows=10**6, scored=40_000).total)
"""


class Narrow(type(CPU)):
    """A processor with so much memory free."""

    def __init__(self, free):
        self.free = free

    def free_memory(self):
        return self.free


def test_what_does_not_fit_is_refused_with_settings_that_do(monkeypatch):
    config = Config.from_preset("criteo_terabyte", {"optimizer": "adam", "execution": "eager", "device": "cpu"})
    dataset = RandomDataset(CRITEO_TERABYTE, validation_rows=1000, test_rows=1000)
    monkeypatch.setattr("dlrm_lib.training.needs.available_memory", lambda: 12 * 10**9)
    with pytest.raises(InputError) as error:
        build(config, dataset, backend=Narrow(12 * 10**9))
    first, second, third = str(error.value).splitlines()
    assert re.fullmatch(
        r"Training needs about [\d.]+ GB of memory: optimizer 33\.\d GB, tables 16\.7 GB, batches [\d.]+ GB, .*\.",
        first,
    )
    assert second == "  found: 12 GB free"
    ways = re.findall(r"--[^;.]+", third.split("Each of these would fit: ")[1])
    assert [way.split()[0] for way in ways] == ["--hash_indices", "--embedding_dim"]
    for way in ways:
        changed = dict(re.findall(r"--(\w+)(?: ([\d,]+))?", way))
        smaller = config.override(**{name: value or True for name, value in changed.items()})
        check_memory(smaller, dataset, Narrow(12 * 10**9))
    with pytest.raises(InputError, match=r"The model needs about 16\.8 GB of memory: tables 16\.7 GB"):
        check_memory(config, dataset, Narrow(None))  # a device of which nobody knows; the host makes the model


def test_batches_that_are_too_large_have_their_own_remedies(monkeypatch):
    config = Config.from_preset("smoke", {"execution": "eager"})
    dataset = RandomDataset(FeatureSpec(numerical=13, cardinalities=(10,) * 26), validation_rows=10**6, test_rows=0)
    free = Narrow(10**9)
    for changed, training, remedy in (
        ({"batch_size": 2**20}, True, r"--batch_size \d+\."),
        ({"test_batch_size": 2**20}, True, r"--test_batch_size \d+\."),
        ({"batch_size": 2**20, "test_batch_size": 2**20}, True, r"--batch_size (\d+) --test_batch_size \1\."),
        ({"test_batch_size": 2**20}, False, r"--test_batch_size \d+\."),
    ):
        with pytest.raises(InputError, match="Each of these would fit: " + remedy):
            check_memory(config.override(**changed), dataset, free, training=training)
    with pytest.raises(InputError, match="remedy: Close other programs"):
        check_memory(config, dataset, Narrow(10**6))


def test_every_way_to_a_model_asks_first(tmp_path, monkeypatch, capsys):
    dataset = encoded_dataset(tmp_path / "data", rows=(60, 20, 20), cardinalities=(3, 7))
    config = Config.from_preset("smoke", {"batch_size": 30, "epochs": 1})
    training = build(config, dataset, backend=CPU)
    save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
    save_state(tmp_path / "m.state.safetensors", training, Results())
    del training

    free = 10_000  # bytes: less than the weights
    for module in ("dlrm_lib.training.needs", "dlrm_lib.backends.cpu.backend"):
        monkeypatch.setattr(f"{module}.available_memory", lambda: free)
    with pytest.raises(InputError, match="The model needs about"):
        load_checkpoint(tmp_path / "m.safetensors", dataset)
    with pytest.raises(InputError, match="Training needs about"):
        load_state(tmp_path / "m.state.safetensors", config, dataset)
    run = Run(config, dataset)
    run.train()
    assert run.state == "failed"
    assert run.failure.startswith("Training needs about")

    paths = [f"--dataset={tmp_path / 'data'}", f"--log_path={tmp_path / 'log.json'}", "--preset=smoke"]
    model = f"--load_checkpoint_path={tmp_path / 'm.safetensors'}"
    for command in (
        ["train"],
        ["train", model],
        ["test", model],
        ["inference_benchmark"],
        ["inference_benchmark", model],
    ):
        assert main([*command, *paths]) == 2
        error = capsys.readouterr().err
        assert re.match(r"(Training|Scoring|The model) needs about .*\n  found: 10 kB free\n  remedy: .*\n$", error), (
            error
        )
    free = 100 * MIB  # room for the weights, and not for torch's modules beside them
    assert main(["test", model, *paths]) == 2
    assert "Scoring needs about" in capsys.readouterr().err
    assert not (tmp_path / "log.json").exists()


def test_random_rows_count_what_they_keep():
    dataset = random_dataset(Config.from_preset("smoke", {"synthetic_dataset": True}))
    batch = dataset.train.read(0, dataset.train.pool_rows)
    assert sum(part.nbytes for part in batch) <= dataset.held_bytes / 2


def test_sizes_in_words():
    sizes = (0, 999, 63_600_000, 41_200_000_000, 9e12)
    assert [in_bytes(size) for size in sizes] == ["0 B", "999 B", "63.6 MB", "41.2 GB", "9 TB"]
