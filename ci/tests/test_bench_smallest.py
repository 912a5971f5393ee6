"""Every bench runs its smallest form through its command line, and figures and pages accept what it writes."""

from __future__ import annotations

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from bench import (
    command_line,
    cost,
    day_by_day,
    inference,
    negative_rate,
    preprocess,
    settings_fit,
    stability,
    time_to_auc,
)
from encoded import random_dataset
from results.__main__ import main as figures
from results.section import BEGIN, END

from dlrm_lib import clean_timing
from dlrm_lib.__main__ import main as dlrm_lib
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.records import read_record

for peer in ("polars", "duckdb"):
    pytest.importorskip(peer, reason=f"{peer} is a package for developers: pip install -e '.[develop]'")

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")

SPREAD = {"median", "low", "high", "repeats"}
ENCODE = ["--days=3", "--repeats=1", "--data={folder}/not/there/yet"]
TRAIN = ["--preset=smoke", "--cores=1", "--work_dir={folder}/work"]
# The name of a record → the bench and its flags, as small as they can be.
SMALLEST = {
    "auc": ("auc", ["--millions=0.002", "--rates=0.25", "--repeats=1", "--cores=1"]),
    "busy": ("busy", ["--models", "smoke", "--repeats=1", "--seconds=0.01", "--with=GOMP_SPINCOUNT=10", "--cores=1"]),
    "cost": (
        "cost",
        [
            *("--rows", "3000", "--table_rows", "52000", "--embedding_dim", "4"),
            *("--repeats=2", "--passes=1", "--seconds=0.001", "--cores=1"),
        ],
    ),
    "day_by_day": (
        "day_by_day",
        ["--rows=2000", "--days=4", "--seeds", "1", "2", "--cores=1", "--work_dir={folder}/days"],
    ),
    "generate": ("generate", ["--rows=3000", "--repeats=1"]),
    "inference": (
        "inference",
        ["--batch_sizes", "1", "16", "--repeats=2", "--seconds=0.001", "--most_rows=100", "--cores=1"],
    ),
    "negative_rate": (
        "negative_rate",
        [
            *("--preset=smoke", "--rows=1600", "--rates=0.1", "--seeds", "3"),
            *("--cores=1", "--work_dir={folder}/rates"),
        ],
    ),
    "preprocess": ("preprocess", [*ENCODE, "--rows=3000", "--peers=polars,polars_tuned,duckdb"]),
    "preprocess_scaling": ("preprocess", [*ENCODE, "--scaling=0.003,0.006"]),
    "reader": ("reader", ["--rows=3000", "--rounds=1", "--seconds=0.001"]),
    "settings_fit": (
        "settings_fit",
        ["--rows=400", "--seeds", "1", "--held_out=160", "--cores=1", "--work_dir={folder}/fit"],
    ),
    "stability": ("stability", [*TRAIN, "--seeds", "3", "5", "--precisions", "fp32", "fp16"]),
    "throughput": (
        "throughput",
        ["--batch_sizes", "8", "16", "--repeats=3", "--seconds=0.001", "--most_rows=100", "--cores=1"],
    ),
    "time_to_auc": ("time_to_auc", [*TRAIN, "--target=0.6", "--every=2", "--repeats=2"]),
    "train_cpu": (
        "train_cpu",
        [
            *("--models=S,N", "--contestants=dense,ours-fp32", "--most_rows=100"),
            *("--rounds=2", "--seconds=0.001", "--starts=0"),
        ],
    ),
}
# Benches whose smallest form has tests of its own.
ELSEWHERE = {"gpu", "same_bits", "same_speed"}


class Records:
    """The record of each bench's smallest form, measured when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        path = self.folder / f"{name}.json"
        if not path.exists():
            bench, flags = SMALLEST[name]
            flags = [flag.format(folder=self.folder.parent) for flag in flags]
            module = importlib.import_module(f"bench.{bench}")
            module.main([f"--record={path}", *flags])
        return path

    def __getitem__(self, name: str) -> dict:
        return json.loads(self.path(name).read_text())


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True, scope="module")
def _as_before(patch) -> Iterator[None]:
    """No test pins the cores of those that follow, or fails because the machine is busy."""
    threads = torch.get_num_threads()
    patch.setattr(os, "sched_setaffinity", lambda *_: None)
    patch.setattr(clean_timing, "WAITED", float("inf"))
    patch.setattr(clean_timing, "AWAY", 1.0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def records(patch, tmp_path_factory) -> Records:
    folder = tmp_path_factory.mktemp("smallest")
    # Rows in whose first column ids differ in their click rate, so that there is something to learn.
    encoded = random_dataset(
        folder / "encoded",
        rows=(4000, 1000, 1000),
        cardinalities=(3, 20, 50),
        click=lambda _, ids: 0.1 + 0.8 * (ids[:, 0] == 0),
    )

    class Made:
        """In the place of a ``Workspace``, which would make the preset's rows."""

        def __init__(self, work_dir, config):
            pass

        def encoded(self):
            return EncodedDataset(encoded.folder)

        def ceiling(self):
            return {"validation": {"encoded": {"auc": 0.9}}}

    for bench in (stability, time_to_auc):
        patch.setattr(bench, "Workspace", Made)
    patch.setattr(inference, "FEWEST", 2)
    # Where others use the cores too, a process of its own would find no segment that it had to itself.
    own_process = cost._in_own_process
    patch.setattr(cost, "_in_own_process", lambda *of: (own_process if of[0] == "rows" else cost.point)(*of))
    # A new Spark for every run takes eight seconds: ours runs in this process, where it keeps its Java.
    in_its_own_process = preprocess.run

    def run(command):
        if command[1:3] != ["-m", "dlrm_lib"]:
            return in_its_own_process(command)
        assert dlrm_lib(command[3:]) == 0

    patch.setattr(preprocess, "run", run)
    (folder / "records").mkdir()
    return Records(folder / "records")


def is_spread(found, repeats):
    assert set(found) == SPREAD
    assert found["repeats"] == repeats
    assert 0 < found["low"] <= found["median"] <= found["high"]
    return True


def test_no_bench_is_left_out(checkout):
    benches = {path.stem for path in (checkout / "ci" / "bench").glob("*.py") if "python ci/bench/" in path.read_text()}
    assert benches | ELSEWHERE == {bench for bench, _ in SMALLEST.values()} | ELSEWHERE


@pytest.mark.parametrize("name", SMALLEST)
def test_a_record_is_written_in_the_usual_form(name, records):
    record = read_record(records.path(name))
    assert "ci/tests" not in record.what
    assert {"cores", "processor"} <= record.config.keys()
    assert record.config.keys() & {"repeats", "rounds", "models"}
    assert record.metrics
    assert not [path for path in records.folder.iterdir() if path.suffix != ".json"]


def test_figures_and_pages_accept_the_records(records, checkout, tmp_path):
    """All that is drawn from a bench's record is drawn from its smallest form's as well."""
    shutil.copytree(checkout / "data", tmp_path / "data", ignore=shutil.ignore_patterns("bench*"))
    shutil.copytree(checkout / "figures" / "records", tmp_path / "figures" / "records")
    for name in SMALLEST:
        shutil.copy(records.path(name), tmp_path / "figures" / "records")
    (tmp_path / "docs").mkdir()
    for page in ("README.md", "docs/results.md"):
        (tmp_path / page).write_text(f"{BEGIN}\n{END}\n")
    assert figures([], root=tmp_path) == 0
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "to a validation AUC of 0.6" in text
    assert "0.003 million rows" in text


def test_nothing_is_built_but_in_one_place(checkout):
    """Backend, first weights, model and step: a change of how they are made changes ``build.py`` alone."""
    forbidden = {"pick", "DLRM", "training_step", "TrainingStep", "FusedStep", "CoalescedStep", "manual_seed"}
    presets = {"ModelConfig", "TrainingConfig"}  # which nobody types again
    found = {}
    for path in (checkout / "ci" / "bench").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
        # Generators of random rows have seeds of their own.
        seeds = {call.attr for call in calls if isinstance(call, ast.Attribute) and "Generator" in ast.dump(call)}
        found[path.name] = names & (forbidden | presets) - seeds
    found = {name: of for name, of in found.items() if of}
    assert found == {
        "build.py": {"pick", "DLRM", "training_step"},
        "data.py": {"ModelConfig", "TrainingConfig"},  # what an interpreter can run: no preset is so small
    }


def test_throughput(records):
    models = records["throughput"]["metrics"]["models"]
    assert [(p["precision"], p["batch_size"]) for p in models["laptop"]] == [
        (precision, size) for precision in ("fp32", "bf16", "fp16") for size in (8, 16)
    ]
    assert [p["precision"] for p in models["nvidia"]] == ["fp32", "fp32", "bf16", "bf16"]
    for point in models["laptop"] + models["nvidia"]:
        assert is_spread(point["samples_per_second"], 3)


def test_inference(records):
    for points in records["inference"]["metrics"]["models"].values():
        assert [(p["precision"], p["batch_size"]) for p in points] == [
            (precision, size) for precision in ("fp32", "bf16") for size in (1, 16)
        ]
        for point in points:
            assert 0 < point["p50_ms"] <= point["p95_ms"] <= point["p99_ms"]
            for name in ("p50_ms", "p95_ms", "p99_ms", "samples_per_second"):
                assert is_spread(point["spread"][name], 2)
                assert point[name] == point["spread"][name]["median"]


def test_cost(records):
    metrics = records["cost"]["metrics"]
    assert {thing: [point["value"] for point in points] for thing, points in metrics.items()} == {
        "rows": [3000],
        "table_rows": [52000],
        "embedding_dim": [4],
    }
    assert metrics["table_rows"][0]["table_bytes"] == 52_000 * 16 * 4
    assert metrics["embedding_dim"][0]["table_bytes"] == 999_986 * 4 * 4
    for points in metrics.values():
        for point in points:
            assert point["samples_per_second"]["repeats"] in (1, 2)
            # Adam remembers two numbers for each weight, and the last step of each row.
            assert point["optimizer_bytes"] >= 2 * point["table_bytes"]
            assert point["memory_bytes"] > point["table_bytes"] + point["optimizer_bytes"]


def test_day_by_day(records):
    """Of 500 rows a day: what each model has seen, and that all begin as one."""
    metrics = records["day_by_day"]["metrics"]
    assert not (records.folder.parent / "days" / "day_by_day").exists()
    first, second = metrics["days"]
    assert [(of["day"], of["tested_rows"]) for of in (first, second)] == [(2, 250), (3, 250)]
    assert first["models"]["trained further"] == first["models"]["trained anew"] == first["models"]["left as it was"]
    assert first["models"]["trained anew"]["rows"] == 1000
    models = second["models"]
    assert {name: of["rows"] for name, of in models.items()} == {
        "trained further": 500,
        "trained anew": 1500,
        "left as it was": 0,
    }
    assert models["trained further"]["new_ids"] > 100
    assert models["left as it was"]["train_seconds"] == [0.0, 0.0]
    aucs = [auc for of in models.values() for auc in of["auc"]]
    assert len(set(aucs)) == 6


def test_days_that_leave_none_to_be_predicted_are_refused(tmp_path, capsys):
    flags = ["--days=3", "--first_days=3", f"--work_dir={tmp_path}"]
    assert command_line.ended(lambda: day_by_day.main(flags)) == 2
    assert "--first_days leaves no day to be predicted.\n  found: 3 of 3 days" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_stability(records):
    """What it measures has tests of its own (``test_bench_results.py``); here it comes from the command line."""
    record = records["stability"]
    assert record["config"]["training"]["optimizer"] == "adam"
    runs = [(run["seed"], run["precision"]) for run in record["metrics"]["runs"]]
    assert runs == [(3, "fp32"), (3, "fp16"), (5, "fp32"), (5, "fp16")]


def test_settings_fit(records):
    record, work = records["settings_fit"], records.folder.parent / "fit"
    assert not list(work.glob("settings_fit*"))
    runs, (found,) = record["metrics"]["runs"], record["metrics"]["summary"]
    (run,) = runs
    assert (run["rows"], run["seed"]) == (400, 1)
    ours, beside = run["laptop"], run["criteo_kaggle"]
    assert ours["preprocess"] == beside["preprocess"]  # few rows are encoded alike
    # 350 training rows: 44 batches of 8 in each of four passes, or of three.
    assert (ours["training"]["batch_size"], ours["steps"], beside["steps"]) == (8, 176, 132)
    assert ours["training"]["warmup_steps"] == round(0.2523 * 176)
    assert found["lead"]["criteo_kaggle"] == ours["auc"] - beside["auc"]


@pytest.mark.parametrize(
    ("rows", "beside", "regression", "fits"),
    [(5000, 0.7019, 0.9, True), (5000, 0.7021, 0.6, False), (50_000, 0.7, 0.699, True), (50_000, 0.7, 0.7001, False)],
)
def test_settings_fit_as_well_as_they_must(rows, beside, regression, fits):
    """On average over the seeds, pair by pair."""
    aucs = {"laptop": 0.7, "criteo_kaggle": beside, "logistic regression": regression}
    runs = [
        {"rows": rows, "seed": seed, **{name: {"auc": auc + off} for name, auc in aucs.items()}}
        for seed, off in ((1, 0.0), (2, 0.05))
    ]
    runs[1]["laptop"]["auc"] += 0.001
    runs[0]["laptop"]["auc"] -= 0.001
    (found,) = settings_fit.summary(runs)
    assert found["leads"]["criteo_kaggle"] == pytest.approx([0.699 - beside, 0.701 - beside])
    assert found["auc"]["laptop"] == pytest.approx(0.725)
    assert found["fits"] == fits
    assert ("does not fit" in settings_fit.report(found)) != fits


def test_raw_rows_have_few_to_train_on_and_many_held_out(tmp_path):
    raw = settings_fit.raw_rows(tmp_path / "raw", 80, 3, 40)
    assert [path.read_bytes().count(b"\n") for path in sorted(raw.glob("day_*"))] == [*[10] * 7, 40]
    assert (raw / "day_6").read_bytes().endswith(b"\n")


def test_negative_rate(records):
    metrics = records["negative_rate"]["metrics"]
    runs, of_rates = metrics["runs"], metrics["summary"]
    assert [(run["seed"], run["negative_rate"]) for run in runs] == [(3, 1.0), (3, 0.1)]
    assert [of["negative_rate"] for of in of_rates] == [1.0, 0.1]
    assert of_rates[0]["rows"] == 1200 > 2 * of_rates[1]["rows"] > 400  # all clicks are among them
    assert (of_rates[0]["calibration_to_all"], of_rates[0]["calibrated"]) == (1, True)
    for of in of_rates:
        assert is_spread(of["seconds"], 1)
        assert 0 < of["calibration"] < 5
    assert not [*(records.folder.parent / "rates").iterdir()]


@pytest.mark.parametrize(("calibrations", "calibrated"), [((0.99, 1.02), True), ((1.03, 1.01), False)])
def test_a_rate_is_calibrated_if_its_seeds_are_on_average(calibrations, calibrated):
    facts = {"rows": 10, "seconds": 1.0, "auc": 0.7, "log_loss": 0.5, "normalised_entropy": 0.9}
    runs = [{"seed": seed, "negative_rate": 1.0, "calibration": 2.0, **facts} for seed in (1, 2)]
    runs += [
        {"seed": seed, "negative_rate": 0.1, "calibration": 2 * of, **facts} for seed, of in enumerate(calibrations, 1)
    ]
    every, tenth = negative_rate.summary(runs)
    assert tenth["calibration_to_all"] == pytest.approx(sum(calibrations) / 2)
    assert (every["calibrated"], tenth["calibrated"]) == (True, calibrated)
    assert ("NOT" in negative_rate.report(tenth)) != calibrated


def test_time_to_auc(records):
    record = records["time_to_auc"]
    metrics = record["metrics"]
    assert metrics["target"] == 0.6
    # Nothing about why that target, which nobody told the bench.
    assert metrics.keys() == {"target", "runs"}
    assert [(run["name"], run["precision"]) for run in metrics["runs"]] == [
        ("fp32, compiled", "fp32"),
        ("fp32, eager", "fp32"),
        ("bf16, compiled", "bf16"),
        ("plain PyTorch, SparseAdam", "fp32"),
        ("plain PyTorch, SGD", "fp32"),
    ]
    for run in metrics["runs"][:3]:
        assert (run["reached"], run["repeats"]) == (2, 2)
        assert is_spread(run["seconds"], 2)
        assert run["seconds_with_evaluation"]["low"] > run["seconds"]["low"]
        assert 2 <= run["steps"]["low"] <= 16
        assert run["best_auc"]["low"] >= 0.6


def test_train_cpu(records):
    record = records["train_cpu"]
    assert record["metrics"].keys() == {"S", "N"}
    for model, contestants in record["metrics"].items():
        assert contestants.keys() == {"plain", "dense", "ours-fp32"}
        assert contestants["plain"]["times_plain"] == [1.0, 1.0, 1.0]
        assert record["config"]["models"][model]["batch_size"] == 2048
    assert record["config"]["models"]["S"]["flag_missing"] == Config.from_preset("laptop").model.flag_missing


def test_preprocess(records):
    record = records["preprocess"]
    assert record["metrics"]["runs_s"].keys() == {"ours", "polars", "polars_tuned", "duckdb"}
    assert {"polars", "duckdb"} <= record["config"].keys()
    assert "pyspark" not in record["config"]  # the chapter's DataFrames were not asked for
    scaling = records["preprocess_scaling"]
    assert scaling["config"]["rows"] == [3000, 6000]
    assert scaling["metrics"]["median_s_gib"].keys() == {"3000", "6000"}
    kept = records.folder.parent / "not" / "there" / "yet"
    assert {path.name for path in kept.iterdir()} == {"3000_rows_3_days", "3000_rows_3_days_twice"}


def test_busy(records):
    record = records["busy"]
    assert record["config"]["environment"] == {
        "ours": {},
        "as OpenMP waits": {"GOMP_SPINCOUNT": "300000"},
        "one thread": {"OMP_NUM_THREADS": "1"},
        "GOMP_SPINCOUNT=10": {"GOMP_SPINCOUNT": "10"},
    }
    found = record["metrics"]["models"]["smoke"]
    assert found.keys() == record["config"]["environment"].keys()
    assert {of["threads"] for of in found.values()} == {1}  # one core
    for of in found.values():
        for name in ("quiet", "busy", "busy_to_quiet", "quiet_to_openmp", "busy_to_one_thread"):
            assert is_spread(of[name], 1)
    one, ours, openmp = found["one thread"], found["ours"], found["as OpenMP waits"]
    assert one["quiet_to_openmp"]["median"] == pytest.approx(one["quiet"]["median"] / openmp["quiet"]["median"])
    assert ours["busy_to_one_thread"]["median"] == pytest.approx(ours["busy"]["median"] / one["busy"]["median"])
    assert one["busy_to_quiet"]["median"] == pytest.approx(one["busy"]["median"] / one["quiet"]["median"])


def test_busy_processes_do_not_outlive_the_bench(checkout):
    core = min(os.sched_getaffinity(0))
    code = (
        "import time, psutil; from bench.busy import all_busy\n"
        f"with all_busy([{core}]):\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=checkout / "ci", stdout=subprocess.PIPE) as bench:
        spinning = psutil.Process(int(bench.stdout.readline()))
        bench.kill()
    gone, left = psutil.wait_procs([spinning], timeout=30)
    for process in left:
        process.kill()
    assert gone


BAD = {
    "auc": [["--millions=0"], ["--rates=1"], ["--rates=x"], ["--repeats=0"]],
    "busy": [["--models", "x"], ["--with=OMP"], ["--seconds=nan"], ["--repeats=0"]],
    "cost": [["--rows", "many"], ["--seconds=-1"], ["--passes=0"]],
    "day_by_day": [["--rows=0"], ["--seeds", "x"], ["--first_days=0"]],
    "generate": [["--rows=0"], ["--repeats=x"]],
    "inference": [["--precisions", "fp8"], ["--batch_sizes", "0"], ["--seconds=inf"]],
    "negative_rate": [["--rates=0.5,2"], ["--rates=nan"], ["--seeds", "x"], ["--rows=0"], ["--preset", "x"]],
    "preprocess": [["--rows=-3"], ["--peers=pandas"], ["--scaling=4,x"], ["--days=0"]],
    "reader": [["--rows=0"], ["--rounds=0"], ["--seconds=0"]],
    "stability": [["--preset", "nonsense"], ["--seeds", "-1"], ["--precisions", "tf32"]],
    "throughput": [["--batch_sizes", "0"], ["--models", "S"], ["--most_rows=x"]],
    "time_to_auc": [["--repeats", "0"], ["--target=1"], ["--every=x"]],
    "train_cpu": [["--models=S,X"], ["--contestants=keras"], ["--rounds=0"], ["--starts=-1"]],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_named_and_ends_with_2(name, tmp_path, capsys):
    bench = importlib.import_module(f"bench.{name}")
    for flags in BAD[name]:
        with pytest.raises(SystemExit) as ended:
            bench.main([f"--record={tmp_path / 'x.json'}", *flags])
        assert ended.value.code == 2
        assert f"argument {flags[0].partition('=')[0]}" in capsys.readouterr().err.splitlines()[-1]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", BAD)
def test_a_place_that_cannot_be_written_is_named_before_anything_is_measured(name, tmp_path, capsys):
    bench = importlib.import_module(f"bench.{name}")
    (tmp_path / "file").write_text("")
    wrong = {
        ("--record", tmp_path): "--record must name a file.\n  found: ",
        ("--record", tmp_path / "file" / "record.json"): f"{tmp_path / 'file'} is no folder",
    }
    of_work_dir = (("--work_dir", bench) for bench in ("day_by_day", "stability", "time_to_auc"))
    for flag, of in (("--data", "preprocess"), *of_work_dir):
        if name == of:
            wrong[flag, tmp_path / "file"] = f"{flag} must name a folder.\n  found: {tmp_path / 'file'}, a file"
            wrong[flag, tmp_path / "file" / "data"] = f"{tmp_path / 'file'} is no folder"
    for (flag, path), sentence in wrong.items():
        flags = [f"--record={tmp_path / 'x.json'}", f"{flag}={path}"]
        assert command_line.ended(lambda flags=flags: bench.main(flags)) == 2
        assert sentence in capsys.readouterr().err
    assert command_line.ended(lambda: bench.main([f"--record={tmp_path / 'x.json'}", "--cores=1000"])) == 2
    assert "--cores is more than this process may use.\n  found: 1000" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_settings_that_exclude_each_other_end_in_a_sentence(tmp_path, capsys):
    flags = ["--rows=10", "--days=6", f"--data={tmp_path}", "--peers=polars"]
    assert command_line.ended(lambda: preprocess.main(flags)) == 2
    assert "found" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_peer_that_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(preprocess.PEERS, "duckdb", "no_such_package")
    assert command_line.ended(lambda: preprocess.main(["--peers=duckdb"])) == 2
    assert "--peers names duckdb, and no_such_package is not installed." in capsys.readouterr().err
