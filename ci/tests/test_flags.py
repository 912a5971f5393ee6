"""NVIDIA's 38 flags: the set, the defaults, and that a line for one command can be pasted to the next."""

from __future__ import annotations

import re

import pytest

from dlrm_lib.__main__ import main
from dlrm_lib.commands.command import configuration
from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.config import Config
from dlrm_lib.errors import InputError

COMMANDS = ("train", "test", "inference_benchmark")

# The flags of NVIDIA/DeepLearningExamples at 15807b36, PyTorch/Recommendation/DLRM/dlrm/scripts/main.py, as its --help
# lists them. ``none`` is where it has no default; the sizes of the synthetic tables are 26 times 10**5.
NVIDIA = {
    "auc_threshold": "none",
    "base_device": "cuda",
    "batch_size": "32768",
    "benchmark_warmup_steps": "0",
    "bottom_mlp_sizes": "512,256,128",
    "dataset": "none",
    "dataset_subset": "none",
    "decay_start_step": "64000",
    "decay_steps": "80000",
    "embedding_dim": "128",
    "epochs": "1",
    "fp16": "true",
    "hash_indices": "false",
    "inference_benchmark_batch_sizes": "1,64,4096",
    "inference_benchmark_steps": "200",
    "interaction_op": "dot",
    "load_checkpoint_path": "none",
    "log_path": "./log.json",
    "loss_scale": "8192.0",
    "lr": "28.0",
    "max_steps": "none",
    "max_table_size": "none",
    "mode": "train",
    "num_numerical_features": "13",
    "output_dir": "/tmp",
    "print_freq": "200",
    "save_checkpoint_path": "none",
    "seed": "12345",
    "self_interaction": "false",
    "shuffle_batch_order": "false",
    "synthetic_dataset": "false",
    "synthetic_dataset_table_sizes": ",".join(["100000"] * 26),
    "test_after": "0.0",
    "test_batch_size": "32768",
    "test_freq": "none",
    "top_mlp_sizes": "1024,1024,512,256,1",
    "warmup_factor": "0",
    "warmup_steps": "6400",
}
SWITCHES = ("fp16", "hash_indices", "self_interaction", "shuffle_batch_order", "synthetic_dataset")

# Where our default is another one, and why.
DIFFERENT = {
    "base_device": "as there",  # another name for --device, whose default is the best device of the machine
    "fp16": "as there",  # another name for a --precision, whose default is the device's own choice
    "log_path": "none",  # a run is kept in runs/ instead, so that none writes over another's log
    "dataset": "data/encoded",  # where preprocess writes when it is told no other place
}


def shown_defaults(capsys, command, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([command, *arguments, "--help"])
    assert stopped.value.code == 0
    options = re.sub(r"\n {8,}", " ", capsys.readouterr().out.split("\noptions:\n")[1])
    lines = [line for line in options.splitlines() if "(default: " in line]
    return {re.search(r"--(\w+)", line)[1]: re.search(r"\(default: ([^()]*)\)$", line)[1] for line in lines}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_nvidia_is_there_with_its_default(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert len(NVIDIA) == 38
    shown = shown_defaults(capsys, command, "--preset", "criteo_terabyte")
    assert {flag: shown.get(flag) for flag in NVIDIA} == {**NVIDIA, **DIFFERENT}
    ours = {"preset", "device", "precision", "execution", "optimizer", "num_indices_per_lookup", "shuffle_rows"}
    ours |= {"batch_factor", "decay_power", "interaction_lasso", "lasso_start_step", "embed_numbers", "linear"}
    ours |= {"embedding_epsilon", "embedding_decay", "standardise", "flag_missing", "embedding_init", "deterministic"}
    ours |= {"cross_layers", "cross_rank", "preload_batches", "synthetic_dataset_rows", "num_indices_per_lookup_fixed"}
    ours |= {"runs_dir", "save_every"}
    assert shown.keys() == NVIDIA.keys() | ours


def test_the_page_for_who_comes_from_nvidia_lists_them_all_and_the_other_defaults(checkout):
    text = (checkout / "docs" / "nvidia.md").read_text(encoding="utf-8")
    flags, defaults = re.findall(r"^\|.*flags? \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    assert sorted(re.findall(r"`--(\w+)`", flags)) == sorted(NVIDIA)
    rows = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in defaults.splitlines()]
    assert {flag.removeprefix("--"): there for flag, there, _ in rows} == {flag: NVIDIA[flag] for flag in DIFFERENT}


def test_help_shows_the_numbers_of_the_preset_on_the_same_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    laptop = Config.from_preset("laptop").training
    assert shown_defaults(capsys, "train")["print_freq"] == str(laptop.print_freq)
    assert shown_defaults(capsys, "train", "--preset=smoke")["print_freq"] == "10"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_with_all_of_nvidias_flags_means_its_defaults_to_every_command(command):
    line = [f"--{flag}={value}" for flag, value in NVIDIA.items() if flag not in (*SWITCHES, "base_device")]
    line = [word.replace("--mode=train", f"--mode={command}") for word in line]
    line += ["--fp16", *(f"--no{flag}" for flag in SWITCHES if flag != "fp16")]
    arguments = parse_arguments(line)
    assert arguments.run.__name__ == command
    assert configuration(arguments) == Config.from_preset("laptop").override(
        **{name: value for name, value in _settings(Config.from_preset("criteo_terabyte")).items() if name in NVIDIA},
        precision="fp16",
    )


def _settings(config):
    return {k: v for part in ("data", "model", "training", "inference") for k, v in vars(getattr(config, part)).items()}


@pytest.mark.parametrize("flag", SWITCHES)
def test_switches_are_spelled_as_absl_has_them(flag):
    for word, on in [
        (f"--{flag}", True),
        (f"--no{flag}", False),
        (f"--{flag}=true", True),
        (f"--{flag}=False", False),
    ]:
        settings = _settings(configuration(parse_arguments(["train", word])))
        assert settings["precision"] == ("fp16" if on else "fp32") if flag == "fp16" else settings[flag] is on


@pytest.mark.parametrize("word", ["-shuffle", "--shuffle"])
def test_shuffle_is_short_for_shuffle_batch_order(word):
    assert configuration(parse_arguments(["train", word])).training.shuffle_batch_order
    assert not configuration(
        parse_arguments(["train", word.replace("shuffle", "noshuffle")])
    ).training.shuffle_batch_order


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["--mode", "test"], "test"),
        (["--lr=2", "--mode=inference_benchmark", "--seed", "3"], "inference_benchmark"),
        (["train", "--mode", "train"], "train"),
        (["--lr=2"], "train"),
    ],
)
def test_mode_is_the_command_and_train_by_default(words, command):
    assert parse_arguments(words).run.__name__ == command


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        (["--base_device", "cpu"], "device", "cpu"),
        (["--base_device", "cpu", "--device", "cpu"], "device", "cpu"),
        (["--fp16"], "precision", "fp16"),
        (["--nofp16"], "precision", "fp32"),
        (["--fp16", "--precision", "fp16"], "precision", "fp16"),
        (["--precision=fp32", "--nofp16"], "precision", "fp32"),
    ],
)
def test_aliases_say_the_same_as_their_setting(words, setting, value):
    assert getattr(configuration(parse_arguments(["train", *words])).training, setting) == value


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--base_device", "cpu", "--device", "auto"], r"found: --base_device cpu \(--device cpu\), --device auto"),
        (["--fp16", "--precision", "bf16"], r"found: --fp16 \(--precision fp16\), --precision bf16"),
        (["--nofp16", "--precision", "auto"], r"found: --nofp16 \(--precision fp32\), --precision auto"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_aliases_that_contradict_their_setting_exit_2(command, words, found, capsys):
    assert main([command, *words]) == 2
    error = capsys.readouterr().err
    assert re.search(r"two names for one setting[\s\S]*" + found, error), error
    assert len(error.strip().splitlines()) == 3


# A bad value for every flag that is made from a setting.
BAD = {
    "auc_threshold": "1.01",
    "batch_factor": "0",
    "batch_size": "0",
    "benchmark_warmup_steps": "-1",
    "bottom_mlp_sizes": "64;16",
    "cross_layers": "0",
    "cross_rank": "low",
    "dataset_subset": "1.5",
    "deterministic": "perhaps",
    "decay_start_step": "soon",
    "decay_steps": "-5",
    "device": "abacus",
    "embedding_dim": "0",
    "epochs": "half",
    "execution": "slow",
    "hash_indices": "perhaps",
    "inference_benchmark_batch_sizes": "1,0",
    "inference_benchmark_steps": "0",
    "interaction_lasso": "-1",
    "lasso_start_step": "late",
    "interaction_op": "add",
    "embed_numbers": "some",
    "linear": "partly",
    "loss_scale": "0",
    "lr": "fast",
    "max_steps": "0",
    "max_table_size": "0",
    "num_indices_per_lookup": "0",
    "num_indices_per_lookup_fixed": "sometimes",
    "num_numerical_features": "-1",
    "optimizer": "lamb",
    "decay_power": "0",
    "embedding_decay": "-0.5",
    "embedding_epsilon": "0",
    "embedding_init": "-0.01",
    "precision": "fp8",
    "preload_batches": "0",
    "print_freq": "0",
    "seed": "-1",
    "self_interaction": "2",
    "shuffle_batch_order": "always",
    "shuffle_rows": "always",
    "standardise": "scaled",
    "flag_missing": "yes",
    "synthetic_dataset": "maybe",
    "synthetic_dataset_rows": "0",
    "synthetic_dataset_table_sizes": "100,0",
    "test_after": "-1",
    "test_batch_size": "1.5",
    "test_freq": "0",
    "top_mlp_sizes": "",
    "warmup_factor": "-1",
    "warmup_steps": "x",
}


def test_a_bad_value_of_any_flag_exits_2_and_names_the_flag(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert BAD.keys() == _settings(Config()).keys()
    for flag, value in BAD.items():
        for command in COMMANDS:
            assert main([command, f"--{flag}={value}"]) == 2
            printed = capsys.readouterr()
            assert f"--{flag}" in printed.err, printed.err
            assert value in printed.err
            assert len(printed.err.strip().splitlines()) <= 3
            assert (printed.out, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mode", "tune"], "--mode takes a command[\\s\\S]*found: tune"),
        (["--mode"], "--mode takes a command"),
        (["train", "--mode", "test"], "Two different commands[\\s\\S]*train, --mode test"),
        (["--learning_rate=1"], "unrecognized arguments: --learning_rate=1"),
        (["--max_table_size=10"], "--max_table_size needs --hash_indices"),
        (["--shuffle", "--shuffle_rows"], "exclude each other"),
    ],
)
def test_flags_that_do_not_go_together(words, sentence, capsys):
    assert main(words) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_an_unknown_preset_is_told_before_any_help():
    with pytest.raises(InputError, match="no such preset"):
        parse_arguments(["train", "--preset", "huge", "--help"])
