"""A notebook's own commands: shown as a person would type them, and run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def in_terminal(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Prints ``python -m dlrm_lib`` with these words and runs it; how it ended is for the caller to look at.

    Args:
        words: The command and its flags.
        folder: Where the notebook's files are; printed as "…".

    Returns:
        Exit code, and as text what was written to stdout and stderr.
    """
    print("python -m dlrm_lib", " ".join(words).replace(str(folder), "…"))
    return subprocess.run([sys.executable, "-m", "dlrm_lib", *words], capture_output=True, text=True, check=False)
