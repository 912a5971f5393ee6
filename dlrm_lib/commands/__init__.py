"""The commands: each a function from parsed flags to its output. What is heavy is imported when a command runs."""

from dlrm_lib.commands.command import Command
from dlrm_lib.commands.data import DATA_COMMANDS
from dlrm_lib.commands.inference import BENCHMARK, TEST
from dlrm_lib.commands.runs import RUNS
from dlrm_lib.commands.train import TRAIN

COMMANDS: tuple[Command, ...] = (*DATA_COMMANDS, TRAIN, TEST, BENCHMARK, RUNS)

__all__ = ["COMMANDS", "Command"]
