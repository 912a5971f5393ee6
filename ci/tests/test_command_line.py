"""The command line: from raw rows to a test AUC, the same numbers as from Python, and sentences for mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from dlrm_lib.__main__ import main
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.devices import pick
from dlrm_lib.model import DLRM
from dlrm_lib.training import Evaluation, fit

SMALL = ["--preset=smoke", "--batch_size=256", "--epochs=1", "--print_freq=5"]


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


def test_every_stage_leaves_its_artifact(work):
    assert sorted(p.name for p in (work / "raw").iterdir()) == ["ceiling.json", "day_0", "day_1", "day_2"]
    manifest = EncodedDataset(work / "encoded").manifest
    assert manifest.rows == {"train": 4000, "validation": 1000, "test": 1000}
    assert (work / "runs" / "model.safetensors").exists()


def test_the_log_tells_programs_what_people_read(work):
    log = lines(work / "log.json")
    assert [line["what"] for line in log] == [
        "train",
        "progress",
        "progress",
        "progress",
        "progress",
        *["evaluation"] * 2,
    ]
    assert log[0]["config"]["training"]["batch_size"] == 256
    assert [line["split"] for line in log[-2:]] == ["validation", "test"]


def test_testing_a_checkpoint_repeats_the_number_of_the_training(work, capsys, tmp_path):
    command = ["test", "--preset=smoke", "--dataset", str(work / "encoded"), "--log_path", str(tmp_path / "log.json")]
    assert main([*command, "--load_checkpoint_path", str(work / "runs" / "model.safetensors")]) == 0
    printed = capsys.readouterr().out
    trained, tested = lines(work / "log.json")[-1], lines(tmp_path / "log.json")[-1]
    assert tested["auc"] == trained["auc"]
    assert f"test: AUC {tested['auc']:.5f}" in printed


def test_the_same_settings_give_the_same_numbers_from_python(work):
    config = Config.from_preset("smoke", {"batch_size": 256, "epochs": 1, "print_freq": 5})
    dataset, device = EncodedDataset(work / "encoded"), pick("auto")
    device.seed(config.training.seed)
    model = DLRM(dataset.spec, config.model)
    (evaluation,) = (e for e in fit(model, dataset, config.training, device) if isinstance(e, Evaluation))
    assert evaluation.auc == lines(work / "log.json")[-2]["auc"]


def test_training_goes_on_from_a_checkpoint(work, tmp_path):
    command = ["train", *SMALL, "--max_steps=1", "--lr=0", "--dataset", str(work / "encoded")]
    load = ["--load_checkpoint_path", str(work / "runs" / "model.safetensors")]
    assert main([*command, *load, "--log_path", str(tmp_path / "log.json")]) == 0
    assert lines(tmp_path / "log.json")[-1]["auc"] == lines(work / "log.json")[-1]["auc"]


def test_the_running_line_reads_like_the_published_one(work, capsys, tmp_path):
    log = ["--log_path", str(tmp_path / "log.json")]
    assert main(["--mode", "train", *SMALL, "--max_steps=5", "--dataset", str(work / "encoded"), *log]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    pattern = r"Epoch:\[0/1\] \[5/5\]  eta: 0:00:00  loss: \d\.\d{4}  step_time: \d\.\d{6}  lr: 0\.\d{4}"
    assert re.fullmatch(pattern, line), line


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
        (["train", "--preset", "medium"], r"no such preset[\s\S]*found: medium"),
        (["train", "--device", "tpu"], r"--device must be one of auto, cpu[\s\S]*found: tpu"),
        (["train", "--dataset", "nowhere"], "nowhere does not exist"),
        (["train", "--embedding_dim=8"], "bottom MLP must end in a vector as long as an embedding"),
        (["test", "--dataset", "nowhere"], "required: --load_checkpoint_path"),
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


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, dlrm_lib; print([m for m in ('torch', 'pyspark', 'matplotlib', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_help_shows_the_default_of_the_preset(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    laptop = Config.from_preset("laptop").training
    assert f"steps between progress lines (default of preset laptop: {laptop.print_freq})" in shown
