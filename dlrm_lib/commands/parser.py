"""From the words of a command line to a command and its flags, which are made from the configuration's fields."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from dlrm_lib.commands import COMMANDS, Command
from dlrm_lib.commands.command import ALIASES
from dlrm_lib.config import PRESETS, Config, fields
from dlrm_lib.errors import InputError
from dlrm_lib.places import local
from dlrm_lib.settings import as_text

# The one flag of NVIDIA's that has a second name.
_SHORT = {"shuffle_batch_order": "shuffle"}


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments as an ``InputError``, so that every mistake reads alike."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}", remedy=f"See `{self.prog} --help`.")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of a command line, and under ``run`` the function of its command.

    Raises:
        InputError: no such command or flag, a flag without its value, or a path that is none of this machine.
        SystemExit: after ``--help``.
    """
    words = _mode_as_command(list(argv))
    arguments = _parser(_preset(words)).parse_args(words)
    for value in vars(arguments).values():
        if isinstance(value, Path):
            local(value)
    return arguments


def _parser(preset: str) -> argparse.ArgumentParser:
    """All commands; their help shows the defaults of ``preset``."""
    parser = _Parser(prog="python -m dlrm_lib", description="Learn, run and tune DLRM.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    defaults = Config.from_preset(preset)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        sub.set_defaults(run=command.run, settings=command.settings)
        for flag, options in command.flags:
            sub.add_argument(flag, **options)
        if command.settings:
            sub.add_argument(
                "--preset", default="laptop", metavar="NAME", help=f"one of {', '.join(PRESETS)} (default: laptop)"
            )
            _add_settings(sub, command, defaults)
        if {of for of, _ in ALIASES.values()} <= set(command.settings):
            aliases = sub.add_argument_group("other names")
            aliases.add_argument("--base_device", metavar="VALUE", help="means --device (default: as there)")
            _add_switch(aliases, "fp16", "means --precision fp16, --nofp16 means --precision fp32 (default: as there)")
            aliases.add_argument("--mode", metavar="COMMAND", help="instead of the first word (default: train)")
    return parser


def _add_settings(parser: argparse.ArgumentParser, command: Command, defaults: Config) -> None:
    groups: dict[str, argparse._ArgumentGroup] = {}
    for section, f in fields():
        if f.name in command.settings:
            if section not in groups:
                groups[section] = parser.add_argument_group(f"{section}, with the defaults of preset {defaults.preset}")
            _add_setting(groups[section], f, getattr(getattr(defaults, section), f.name))


def _add_setting(group: argparse._ArgumentGroup, f: dataclasses.Field, default: Any) -> None:
    text = f"{f.metadata['help']} (default: {as_text(default)})"
    if isinstance(f.default, bool):
        _add_switch(group, f.name, text, also=_SHORT.get(f.name), open_too="None" in str(f.type))
    else:
        choices, words = f.metadata["choices"], ("VALUE", *f.metadata["words"])
        group.add_argument(f"--{f.name}", metavar="|".join(choices or words), help=text)


def _add_switch(
    group: argparse._ArgumentGroup, name: str, text: str, also: str | None = None, open_too: bool = False
) -> None:
    """``--name``, ``--noname``, and as absl has it ``--name=true`` and ``--name=false``; ``also`` is a second name.

    ``--name=none`` leaves it open where that may be.
    """
    other_names = [f"{dash}{also}" for dash in ("-", "--") if also]
    switch = group.add_mutually_exclusive_group()
    switch.add_argument(
        f"--{name}",
        *other_names,
        dest=name,
        nargs="?",
        const=True,
        type=_true_false_or_none if open_too else _true_or_false,
        metavar="true|false|none" if open_too else "true|false",
        help=text,
    )
    no_names = [f"{dash}no{also}" for dash in ("-", "--") if also]
    switch.add_argument(f"--no{name}", *no_names, dest=name, action="store_const", const=False, help=argparse.SUPPRESS)


def _true_or_false(text: str) -> bool:
    try:
        return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}") from None


def _true_false_or_none(text: str) -> bool | str:
    return text.lower() if text.lower() == "none" else _true_or_false(text)


def _mode_as_command(words: list[str]) -> list[str]:
    """``--mode train`` anywhere, or ``--mode=train``, means the command ``train``, and so do flags alone."""
    names = [command.name for command in COMMANDS]
    for at, word in enumerate(words):
        if word == "--mode" or word.startswith("--mode="):
            mode = word.removeprefix("--mode=") if "=" in word else "".join(words[at + 1 : at + 2])
            rest = words[:at] + words[at + (1 if "=" in word else 2) :]
            if mode not in names:
                raise InputError("--mode takes a command.", found=mode, remedy=f"Commands are: {', '.join(names)}.")
            if rest and rest[0] in names and rest[0] != mode:
                raise InputError("Two different commands are given.", found=f"{rest[0]}, --mode {mode}")
            return [mode, *(rest[1:] if rest[:1] == [mode] else rest)]
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        return ["train", *words]
    return words


def _preset(words: list[str]) -> str:
    """The preset that a command line names, before it is parsed: its numbers are those that the help shows."""
    named = [word.removeprefix("--preset=") for word in words if word.startswith("--preset=")]
    named += [value for word, value in itertools.pairwise(words) if word == "--preset"]
    return named[-1] if named else "laptop"
