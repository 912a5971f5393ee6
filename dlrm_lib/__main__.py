"""The command line: ``python -m dlrm_lib <command>``, or ``--mode <command>`` as NVIDIA's has it.

Exit codes: 0 done; 2 bad arguments, input or environment; 3 training diverged; 130 interrupted; 1 a bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dlrm_lib.console import lasting_output, say
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.memory import shortage


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    with lasting_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        from dlrm_lib.commands.parser import parse_arguments

        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        arguments.run(arguments)
    except InputError as error:
        say(str(error), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__):
            raise
        remedy = "Install what the program needs (`pip install -e .`); `python -m dlrm_lib doctor` looks at the rest."
        say(str(InputError(f"The package {package} is not installed.", remedy=remedy)), file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        say(str(error), file=sys.stderr)
        return 3
    except (MemoryError, OSError, RuntimeError) as error:
        lacking = shortage(error)
        if lacking is None:
            raise
        say(str(lacking), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("Interrupted.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
