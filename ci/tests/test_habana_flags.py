"""The table of docs/gaudi.md for people who come from Habana's DLRM: nothing is left out, and what it names is there.

``habana_flags.json`` records the names that the argument parsers of its two scripts take.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dlrm_lib.__main__ import main
from dlrm_lib.backends.gaudi import environment
from dlrm_lib.commands import COMMANDS
from dlrm_lib.commands.command import configuration, given_settings
from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.config import Config
from dlrm_lib.errors import InputError

RECORD = json.loads(Path(__file__).with_name("habana_flags.json").read_text(encoding="utf-8"))

# The first line of the README there, without --mode and --data_type, which do not say what is trained.
PUBLISHED = {
    "world_size": "1",
    "print-time": "",
    "print-freq": "500",
    "arch-interaction-op": "cat",
    "arch-sparse-feature-size": "64",
    "arch-embedding-size": "3000000",
    "arch-mlp-bot": "1024-1024-1024-64",
    "arch-mlp-top": "4096-4096-4096-4096-4096-4096-4096-1",
    "mini-batch-size": "512",
    "learning-rate": "1e-05",
    "num-batches": "10000",
    "num-indices-per-lookup": "38",
    "optimizer": "adagrad",
}


def rows(checkout, head):
    """The cells of the page's table with this head: what is there, and what is here."""
    text = (checkout / "docs" / "gaudi.md").read_text(encoding="utf-8")
    table = re.search(rf"^\| {head} \| here \|\n\|---\|---\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)[1]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in table.splitlines()]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def table(checkout):
    """What is written there, a flag or a flag and its value → the cell that is here."""
    found = {}
    for there, here in rows(checkout, "Habana's flag"):
        for snippet in code(there):
            found.setdefault(snippet, here)
    return found


def test_every_flag_of_habanas_is_in_the_table_and_no_other(table):
    demo, script = (set(RECORD[name]) for name in ("demo_dlrm.py", "dlrm_s_pytorch_hpu_custom.py"))
    assert (len(demo), len(script), len(demo & script)) == (43, 71, 37)
    assert {snippet.split()[0] for snippet in table} == demo | script
    modes = {s.split()[1] for s in table if s.startswith("--mode ")}
    kinds = {s.split()[1] for s in table if s.startswith("--data-generation ")}
    assert (modes, kinds) == ({"lazy", "custom", "cpu"}, {"random", "dataset", "synthetic"})


def test_every_row_says_a_flag_of_ours_or_why_there_is_none(table):
    commands, said = {command.name for command in COMMANDS}, set()
    for there, here in table.items():
        for snippet in code(here):
            words = shlex.split(snippet)
            if snippet.startswith("--") or words[0] in commands:
                command = [] if words[0] in commands else ["train", "--preset=gaudi_medium"]
                arguments = parse_arguments([*command, *words])
                if arguments.settings:
                    configuration(arguments)
                said |= {word for word in words if word.startswith("--")}
            else:
                assert snippet in (*environment.OPERATOR_LISTS, "bce", "mse", "wbce", "none", "day", "step_time")
        has_ours = any(snippet.startswith("--") or snippet.split()[0] in commands for snippet in code(here))
        assert has_ours or re.match(r"not (there|needed)|binary cross-entropy", here), (there, here)
    assert len(said) > 30
    with pytest.raises(InputError, match="unrecognized"):  # a flag that is not ours would be seen
        parse_arguments(["train", "--preset=gaudi_medium", "--data_type", "bf16"])


def settings(config):
    return {**vars(config.data), **vars(config.model), **vars(config.training)}


def test_the_published_line_translated_by_the_table_is_the_preset(table):
    words = []
    for name, value in PUBLISHED.items():
        here = table.get(f"--{name} {value}", table.get(f"--{name}"))
        if name == "num-batches":
            here = table["--num-batches 2000"]
            assert f"--synthetic_dataset_rows {int(value) * 512}" in here
        elif code(here) and not here.startswith("not "):
            words += shlex.split(code(here)[0])
    arguments = parse_arguments(["train", *words])
    given, of_medium = settings(configuration(arguments)), settings(Config.from_preset("gaudi_medium"))
    names = given_settings(arguments).keys()
    assert len(names) == 11
    assert {name: given[name] for name in names} == {name: of_medium[name] for name in names}
    for there in ("--data-size 1024000", "--test-mini-batch-size 512", "--nepochs 1"):
        name, value = code(table[there])[0].removeprefix("--").split()
        assert of_medium[name] == int(value)


def test_what_is_beside_the_flags_is_told_too(checkout):
    beside = rows(checkout, "Habana's code")
    there = " ".join(cell for cell, _ in beside)
    lazy_passes = ("enable_fuse_t_mm_optimization", "enable_eliminate_common_subexpression", "enable_constant_pooling")
    rest = ("hmp.convert", "load_habana_module", "permute_params", "mark_step", "HCL", "hb_configs", "MPI_ROOT")
    assert [name for name in (*lazy_passes, *rest) if name not in there] == []
    paths = [s for _, here in beside for s in code(here) if s.startswith("dlrm_lib/")]
    assert len(paths) == 2
    assert all((checkout / path).is_file() for path in paths)
    assert all(here for _, here in beside)


def demos(checkout):
    text = (checkout / "docs" / "gaudi.md").read_text(encoding="utf-8")
    return [shlex.split(line)[3:] for line in re.findall(r"^python -m dlrm_lib train .*--device hpu.*$", text, re.M)]


def test_there_are_four_demos(checkout):
    training = [configuration(parse_arguments(line)).training for line in demos(checkout)]
    ways = [(execution, precision) for execution in ("eager", "lazy") for precision in ("fp32", "bf16")]
    assert [(one.execution, one.precision) for one in training] == ways


SMALL = ["--synthetic_dataset_table_sizes=3000", "--batch_size=32", "--max_steps=2", "--print_freq=1"]


@pytest.mark.parametrize("number", range(4))
def test_each_demo_asks_for_a_gaudi_and_trains_on_a_processor(number, checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = demos(checkout)[number]
    if not environment.plugin_is_installed():
        assert main(line) == 2
        assert capsys.readouterr().err.startswith("No Intel Gaudi can be used here.\n")
    line = [{"hpu": "cpu"}.get(word, word) for word in line]
    assert main([*line, *SMALL]) == 0
    assert "[2/2]" in capsys.readouterr().out
