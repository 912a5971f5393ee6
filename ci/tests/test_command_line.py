"""The command line: from raw rows to a test AUC, the same numbers as from Python, and sentences for mistakes."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dlrm_lib.__main__ import main
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.training import Evaluation, build, fit, state_path

# In steps, where the preset has shares: a run that ends earlier and is resumed then has the schedule of a longer one.
SCHEDULE = {"warmup_steps": 10, "decay_start_step": 18, "decay_steps": 158}
SMALL = ["--preset=smoke", "--batch_size=256", "--epochs=1", "--print_freq=5"]
SMALL += [f"--{name}={steps}" for name, steps in SCHEDULE.items()]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Raw and encoded rows and a trained model, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("work")
    raw, encoded, model = str(folder / "raw"), str(folder / "encoded"), str(folder / "runs" / "model.safetensors")
    log = ["--log_path", str(folder / "log.json")]
    assert main(["generate", "--preset=smoke", "--rows=6000", "--days=3", "--workers=1", "--output", raw]) == 0
    assert main(["preprocess", "--preset=smoke", "--cores=2", "--input", raw, "--output", encoded]) == 0
    assert main(["train", *SMALL, "--dataset", encoded, "--save_checkpoint_path", model, *log]) == 0
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def train(work, tmp_path):
    """Trains in a folder of the test's own; returns the exit code."""

    def run(*flags, model="model.safetensors", dataset=work / "encoded"):
        paths = [f"--dataset={dataset}", f"--save_checkpoint_path={tmp_path / model}"]
        return main(["train", *SMALL, *paths, f"--log_path={tmp_path / 'log.json'}", *flags])

    return run


def test_every_stage_leaves_its_artifact(work):
    assert sorted(p.name for p in (work / "raw").iterdir()) == ["ceiling.json", "day_0", "day_1", "day_2"]
    manifest = EncodedDataset(work / "encoded").manifest
    assert manifest.rows == {"train": 4000, "validation": 1000, "test": 1000}
    assert (work / "runs" / "model.safetensors").exists()


def test_a_column_that_is_new_in_the_held_out_rows_is_named_and_spoils_nothing(work, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    for day in range(3):
        rows = [line.split(b"\t") for line in (work / "raw" / f"day_{day}").read_bytes().splitlines()]
        for row in rows:
            row[2] = b"%d" % (100 + len(row[15])) if day == 2 else b""
        (tmp_path / "raw" / f"day_{day}").write_bytes(b"".join(b"\t".join(row) + b"\n" for row in rows))
    where = ["--input", str(tmp_path / "raw"), "--output", str(tmp_path / "encoded")]
    assert main(["preprocess", "--preset=criteo_kaggle", *where]) == 0
    notes = [line.strip() for line in capsys.readouterr().out.splitlines() if "remark:" in line]
    assert notes == ["remark: num_1 is missing in all training rows, and in none of those held out"]
    log = tmp_path / "log.json"
    flags = ["--device=cpu", "--preset=criteo_kaggle", "--epochs=1", f"--log_path={log}"]
    assert main(["train", *flags, f"--dataset={tmp_path / 'encoded'}"]) == 0
    judged = [line["normalised_entropy"] for line in lines(log) if line["what"] == "evaluation"]
    assert len(judged) == 2
    assert max(judged) < 1.05  # with the column divided by its deviation, 0: above 2


def test_the_log_tells_programs_what_people_read(work):
    log = lines(work / "log.json")
    assert [line["what"] for line in log] == ["train", *["progress"] * 4, "evaluation", "evaluation", "result"]
    assert log[0]["config"]["training"]["batch_size"] == 256
    validation, test, result = log[-3:]
    assert (validation["split"], test["split"], test["model"]) == ("validation", "test", "best and last")
    assert (result["best_auc"], result["best_epoch"], result["best_step"]) == (validation["auc"], 1.0, 16)
    assert result["average_train_throughput"] == log[4]["average_samples_per_second"]
    assert result["average_test_throughput"] > 0


def test_testing_a_checkpoint_repeats_the_number_of_the_training(work, capsys, tmp_path):
    command = ["test", "--preset=smoke", "--dataset", str(work / "encoded"), "--log_path", str(tmp_path / "log.json")]
    assert main([*command, "--load_checkpoint_path", str(work / "runs" / "model.safetensors")]) == 0
    printed = capsys.readouterr().out
    trained, (head, tested, result) = lines(work / "log.json")[-2], lines(tmp_path / "log.json")
    assert {name: trained[name] for name in tested} | {"step": 0} == tested
    assert f"test: AUC {tested['auc']:.5f}" in printed
    assert (head["what"], result["what"], result["auc"]) == ("test", "result", tested["auc"])
    # 1,000 rows are one batch of 32,768.
    assert result["average_test_throughput"] == pytest.approx(1000 / result["avg_inference_latency"])


def test_testing_is_done_in_the_precision_of_the_training(train, work, tmp_path):
    assert train("--precision=bf16") == 0
    trained = lines(tmp_path / "log.json")[-2]
    paths = [f"--dataset={work / 'encoded'}", f"--load_checkpoint_path={tmp_path / 'model.safetensors'}"]
    found = {}
    for precision in ("bf16", "fp32"):
        log = tmp_path / f"{precision}.json"
        assert main(["test", *SMALL, *paths, f"--precision={precision}", f"--log_path={log}"]) == 0
        found[precision] = lines(log)[1]["log_loss"]
    assert found["bf16"] == trained["log_loss"]
    assert found["fp32"] == pytest.approx(trained["log_loss"], abs=0.01)
    assert found["fp32"] != trained["log_loss"]


def test_the_same_settings_give_the_same_numbers_from_python(work):
    config = Config.from_preset("smoke", {"batch_size": 256, "epochs": 1, "print_freq": 5, **SCHEDULE})
    training = build(config, EncodedDataset(work / "encoded"))
    (evaluation,) = (e for e in fit(training) if isinstance(e, Evaluation))
    assert evaluation.auc == lines(work / "log.json")[-3]["auc"]


def test_training_goes_on_from_a_checkpoint(work, tmp_path):
    command = ["train", *SMALL, "--max_steps=1", "--lr=0", "--dataset", str(work / "encoded")]
    load = ["--load_checkpoint_path", str(work / "runs" / "model.safetensors")]
    assert main([*command, *load, "--log_path", str(tmp_path / "log.json")]) == 0
    assert lines(tmp_path / "log.json")[-2]["auc"] == lines(work / "log.json")[-2]["auc"]


def test_the_running_line_reads_like_the_published_one(work, capsys, tmp_path):
    log = ["--log_path", str(tmp_path / "log.json")]
    assert main(["--mode", "train", *SMALL, "--max_steps=5", "--dataset", str(work / "encoded"), *log]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    pattern = r"Epoch:\[0/1\] \[5/5\]  eta: 0:00:00  loss: \d\.\d{4}  step_time: \d\.\d{6}  lr: 0\.\d{4}"
    assert re.fullmatch(pattern, line), line


def test_first_steps_are_left_out_of_the_speed_and_said_to_be(train, capsys, tmp_path):
    assert train("--max_steps=9", "--print_freq=3", "--benchmark_warmup_steps=4") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["Warming up, step [3/4]", "Warming up, step [4/4]"]
    assert [line.split()[1] for line in printed[2:4]] == ["[6/9]", "[9/9]"]
    progress = [line for line in lines(tmp_path / "log.json") if line["what"] == "progress"]
    measured = [(p["step_time"] * steps, 256 * steps) for p, steps in zip(progress[2:], (2, 3), strict=True)]
    seconds, rows = map(sum, zip(*measured, strict=True))
    assert lines(tmp_path / "log.json")[-1]["average_train_throughput"] == pytest.approx(rows / seconds)


def test_the_best_model_is_kept_and_the_last_is_told_too(train, work, monkeypatch, capsys, tmp_path):
    from dlrm_lib.training import loop

    chosen, evaluate = iter((0.6, 0.9, 0.7, 0.8)), loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *a, **k: dataclasses.replace(evaluate(*a, **k), auc=next(chosen)))
    assert train("--test_freq=4") == 0
    *_, last, best, result = log = lines(tmp_path / "log.json")
    assert [line["auc"] for line in log if line.get("split") == "validation"] == [0.6, 0.9, 0.7, 0.8]
    assert (last["model"], last["step"], best["model"], best["step"]) == ("last", 16, "best", 8)
    assert (result["best_auc"], result["best_step"], result["best_epoch"], result["last_auc"]) == (0.9, 8, 0.5, 0.8)
    assert last["log_loss"] != best["log_loss"]
    printed = capsys.readouterr().out
    for name, auc, split in (("best", 0.9, "validation"), ("last", 0.8, "validation"), ("best", best["auc"], "test")):
        assert f"{name} model: {split}: AUC {auc:.5f}" in printed
    # What was kept is the best one: testing it repeats that number, and not the last one's.
    command = ["test", "--preset=smoke", "--dataset", str(work / "encoded"), "--log_path", str(tmp_path / "test.json")]
    assert main([*command, "--load_checkpoint_path", str(tmp_path / "model.safetensors")]) == 0
    assert lines(tmp_path / "test.json")[1]["log_loss"] == best["log_loss"]


def test_reaching_the_wanted_auc_ends_the_training(train, capsys, tmp_path):
    assert train("--auc_threshold=0.01", "--test_freq=3") == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"^Hit target accuracy AUC 0\.01 at epoch 0\.19 in \d+s\. Average speed \d+\.\d ", printed, re.MULTILINE
    )
    assert lines(tmp_path / "log.json")[-1]["best_step"] == 3


def test_no_evaluation_before_so_many_epochs(train, tmp_path):
    assert train("--test_freq=4", "--test_after=0.5") == 0
    steps = [line["step"] for line in lines(tmp_path / "log.json") if line.get("split") == "validation"]
    assert steps == [12, 16]  # NVIDIA's rule: step 8 has the index 7 of 16, so half an epoch is not yet past


def test_a_relative_checkpoint_lies_in_the_output_dir_that_is_given(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["train", *SMALL, "--max_steps=1", "--dataset", str(work / "encoded"), "--output_dir=models"]
    assert main([*command, "--save_checkpoint_path=a/model.safetensors"]) == 0
    assert (tmp_path / "models" / "a" / "model.safetensors").exists()
    assert main([*command, f"--save_checkpoint_path={tmp_path / 'b.safetensors'}"]) == 0
    assert (tmp_path / "b.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.safetensors", "b.state.safetensors", "models", "runs"]


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("how", [["--shuffle_rows", "--optimizer=adam"], ["--shuffle", "--optimizer=sgd", "--lr=1"]])
def test_a_resumed_run_ends_as_an_uninterrupted_one(train, tmp_path, how):
    assert train(*how, "--epochs=2", model="whole.safetensors") == 0
    whole = lines(tmp_path / "log.json")
    assert train(*how, "--epochs=2", "--max_steps=19") == 0
    before = (tmp_path / "log.json").read_text()
    assert train(*how, "--epochs=2", "--resume") == 0
    assert (tmp_path / "log.json").read_text().startswith(before)
    assert same_tensors(state_path(tmp_path / "whole.safetensors"), state_path(tmp_path / "model.safetensors"))
    last, tested = (
        next(of for of in log if (of.get("split"), of.get("step")) == ("test", 32))
        for log in (whole, lines(tmp_path / "log.json"))
    )
    assert tested["log_loss"] == last["log_loss"]


def test_an_interrupted_run_exits_130_and_goes_on(train, work, tmp_path):
    paths = [f"--dataset={work / 'encoded'}", f"--save_checkpoint_path={tmp_path / 'model.safetensors'}"]
    command = [
        sys.executable,
        "-u",
        "-m",
        "dlrm_lib",
        "train",
        *SMALL,
        *paths,
        "--epochs=100000",
        "--decay_steps=0",
        "--test_freq=1000000",
    ]
    command += [f"--log_path={tmp_path / 'log.json'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline().startswith("Epoch:[0/100000] [5/")
        run.send_signal(signal.SIGINT)
        _, error = run.communicate(timeout=60)
    assert run.returncode == 130, error
    done = int(re.fullmatch(r"Kept after step (\d+): .*--resume goes on there.\nInterrupted.\n", error)[1])
    assert done >= 5
    longer = ["--epochs=100000", "--decay_steps=0", f"--max_steps={done + 7}", "--test_freq=1000000"]
    assert train(*longer, "--resume") == 0
    assert [line["step"] for line in lines(tmp_path / "log.json") if line["what"] == "train"] == [0, done]
    assert train(*longer, model="whole.safetensors") == 0
    assert same_tensors(tmp_path / "whole.safetensors", tmp_path / "model.safetensors")
    assert same_tensors(state_path(tmp_path / "whole.safetensors"), state_path(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--resume"], r"model\.state\.safetensors does not exist"),
        (["--resume", "--load_checkpoint_path=x"], "--resume goes on from the training state"),
    ],
)
def test_there_must_be_something_to_resume(train, tmp_path, capsys, flags, sentence):
    assert train(*flags) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_resuming_needs_to_know_what(work, capsys, tmp_path):
    log = f"--log_path={tmp_path / 'log.json'}"
    assert main(["train", *SMALL, "--dataset", str(work / "encoded"), "--resume", log]) == 2
    assert "found: no --save_checkpoint_path" in capsys.readouterr().err


def test_places_that_cannot_be_written_to_are_told_before_the_training(train, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for flag in ("--save_checkpoint_path", "--log_path"):
        for place in ("", ".", "/", "file/model", "file/a/b"):
            assert train(f"{flag}={place}") == 2
            printed = capsys.readouterr()
            assert flag in printed.err, printed.err
            assert printed.out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert train("--log_path=/dev/null", "--max_steps=1") == 0


def test_a_resumed_run_must_be_the_same_run(train, capsys, tmp_path):
    assert train("--max_steps=2") == 0
    log = (tmp_path / "log.json").read_text()
    capsys.readouterr()
    assert train("--resume", "--lr=0.5") == 2
    assert re.search(r"--lr has changed[\s\S]*0\.01 then, 0\.5 now", capsys.readouterr().err)
    assert (tmp_path / "log.json").read_text() == log


def write_layout_of_2020(folder, encoded):
    """The same rows as NVIDIA's first release reads them: int32 records, floats by their bits, greatest ids."""
    folder.mkdir()
    for split in (encoded.train, encoded.test):
        batch = split.read(0, len(split))
        label = batch.label.numpy().astype(np.int32)[:, None]
        numbers, ids = batch.numerical.numpy().astype(np.float32).view(np.int32), batch.categorical.numpy()
        np.hstack([label, numbers, ids]).astype(np.int32).tofile(folder / f"{split.name}_data.bin")
    greatest = {f"_c{14 + j}": ids - 1 for j, ids in enumerate(encoded.spec.cardinalities)}
    (folder / "model_size.json").write_text(json.dumps(greatest))


def test_a_data_set_in_the_layout_of_2020(train, work, tmp_path, capsys):
    write_layout_of_2020(tmp_path / "binary", EncodedDataset(work / "encoded"))
    assert train("--max_steps=7", dataset=tmp_path / "binary", model="a.safetensors") == 0
    log = lines(tmp_path / "log.json")
    assert train("--max_steps=7", model="b.safetensors") == 0
    same = lines(tmp_path / "log.json")
    # The same rows make the same model. This layout has no validation rows: the last model is kept, and tested.
    assert {line["split"] for line in log if line["what"] == "evaluation"} == {"test"}
    assert log[-2]["log_loss"] == same[-2]["log_loss"]
    assert same_tensors(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "(the last model)" in capsys.readouterr().out
    assert train("--num_numerical_features=12", dataset=tmp_path / "binary") == 2
    assert "--num_numerical_features" in capsys.readouterr().err


def test_random_batches_instead_of_a_data_set(work, tmp_path, capsys):
    log = ["--log_path", str(tmp_path / "log.json")]
    sizes = ["--synthetic_dataset", "--synthetic_dataset_table_sizes=7,300", "--num_numerical_features=2"]
    save = ["--save_checkpoint_path", str(tmp_path / "model.safetensors")]
    assert main(["train", "--preset=smoke", *sizes, "--num_indices_per_lookup=3", "--max_steps=3", *log, *save]) == 0
    result = lines(tmp_path / "log.json")[-1]
    assert result["average_train_throughput"] > 0
    assert "average_test_throughput" not in result  # 100 million random rows tell nothing of a model
    assert load_file(tmp_path / "model.safetensors")["tables.weight"].shape == (7 + 300 + 1, 16)
    assert main(["train", *SMALL, "--num_indices_per_lookup=3", "--dataset", str(work / "encoded"), *log]) == 2
    assert "--num_indices_per_lookup needs --synthetic_dataset" in capsys.readouterr().err


def test_a_part_of_the_training_rows(train, tmp_path):
    assert train("--dataset_subset=0.5") == 0
    assert [line["steps"] for line in lines(tmp_path / "log.json") if line["what"] == "progress"] == [8] * 2


def test_flags_that_describe_another_model_than_the_checkpoint(work, capsys, tmp_path):
    command = ["--dataset", str(work / "encoded"), "--log_path", str(tmp_path / "log.json")]
    command += ["--load_checkpoint_path", str(work / "runs" / "model.safetensors")]
    for name in ("train", "test", "inference_benchmark"):
        assert main([name, *command, "--top_mlp_sizes=8,1"]) == 2
        assert re.search(r"another top_mlp_sizes[\s\S]*64,32,1 in the checkpoint, 8,1 on", capsys.readouterr().err)
    # Flags that say what it is, or nothing of it, are welcome: lines are pasted from one command to the next.
    assert main(["test", *command, "--top_mlp_sizes=64,32,1", "--lr=3", "--epochs=7", "--resume"]) == 0


def test_bars_show_on_a_terminal_and_lines_go_above_them(train, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert train("--max_steps=5") == 0
    printed = capsys.readouterr()
    assert re.search(r"training: 100%.*5\.00/5\.00", printed.err), printed.err
    assert printed.out.startswith("Epoch:[0/1] [5/5]")


def test_what_is_there_is_not_overwritten_unasked(work, capsys):
    before = (work / "raw" / "day_0").read_bytes()
    generate = ["generate", "--rows=40", "--days=2", "--workers=1", "--output", str(work / "raw")]
    assert main(generate) == 2
    assert re.search(r"raw is there already[\s\S]*--overwrite", capsys.readouterr().err)
    assert main(["preprocess", "--input", str(work / "raw"), "--output", str(work / "encoded")]) == 2
    assert (work / "raw" / "day_0").read_bytes() == before


def test_overwriting_when_asked(tmp_path, capsys):
    generate = ["generate", "--days=2", "--workers=1", "--output", str(tmp_path / "raw")]
    assert main([*generate, "--rows=40"]) == 0
    assert main([*generate, "--rows=60", "--overwrite"]) == 0
    assert (tmp_path / "raw" / "day_1").read_bytes().count(b"\n") == 30
    assert "60 rows in 2 day files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: command"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--learning_rate", "1"], "unrecognized arguments: --learning_rate"),
        (["train", "--lr", "fast"], r"--lr takes a finite number[\s\S]*found: fast"),
        (["train", "--lr=-3"], r"--lr must be at least 0"),
        (["train", "--auc_threshold=0"], r"--auc_threshold must be above 0"),
        (["train", "--auc_threshold=2"], r"--auc_threshold must be at most 1"),
        (["train", "--preset", "medium"], r"no such preset[\s\S]*found: medium"),
        (["train", "--device", "tpu"], r"--device must be one of auto, cpu[\s\S]*found: tpu"),
        (["train", "--dataset", "nowhere"], "nowhere does not exist"),
        (["train", "--embedding_dim=8"], "bottom MLP must end in a vector as long as an embedding"),
        (["train", "--dataset", "nowhere", "--dataset_subset=0"], "--dataset_subset must be above 0"),
        (["test", "--dataset", "nowhere"], "test needs a trained model"),
        (["test", "--dataset", "nowhere", "--load_checkpoint_path", "m"], "nowhere does not exist"),
        (["inference_benchmark", "--dataset", "nowhere"], "nowhere does not exist"),
        (["generate", "--rows=1"], "--rows"),
        (["preprocess", "--input", "nowhere", "--output", "out"], "nowhere"),
    ],
)
def test_mistakes_exit_2_with_a_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert re.search(sentence, printed.err), printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert list(tmp_path.iterdir()) == []


def test_diverging_exits_3_and_keeps_the_old_checkpoint(work, capsys, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the last good one")
    command = ["train", *SMALL, "--lr=1e30", "--warmup_steps=0", "--dataset", str(work / "encoded")]
    command += ["--log_path", str(tmp_path / "log.json"), "--save_checkpoint_path", str(path)]
    assert main(command) == 3
    assert "The loss is" in capsys.readouterr().err
    assert path.read_bytes() == b"the last good one"


def test_an_interrupt_exits_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dlrm_lib.doctor.examine", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "dlrm_lib", "doctor"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Java\s+ok", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("module", ["dlrm_lib", "dlrm_lib.__main__", "dlrm_lib.commands.parser"])
def test_importing_the_package_loads_nothing_heavy(module):
    heavy = "('torch', 'numpy', 'pyspark', 'matplotlib', 'IPython', 'tqdm')"
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
