"""What a process is told before it trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((REPOSITORY / "notebooks").glob("0*.ipynb"))
_ABOUT_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")

# Whoever prepares the process learns whether torch, which reads the environment, is there by then; nothing follows.
_WATCHED = """
import json, sys
from dlrm_lib import process

def told(config):
    print(json.dumps({"torch": "torch" in sys.modules, "device": config.training.device}))
    raise SystemExit(9)

process.prepare = told
"""


def _told(code: str) -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", _WATCHED + code], cwd=REPOSITORY / "notebooks", capture_output=True, text=True
    )
    assert ran.returncode == 9, ran.stderr
    return json.loads(ran.stdout)


def _waits(environment: dict[str, str]) -> dict[str, str]:
    """The variables about waiting after ``prepare`` in a process that began with these."""
    code = (
        "import json, os\n"
        "from dlrm_lib.config import Config\nfrom dlrm_lib.process import prepare\n"
        "prepare(Config())\nprint(json.dumps(dict(os.environ)))"
    )
    others = {name: value for name, value in os.environ.items() if name not in _ABOUT_WAITING}
    printed = subprocess.run([sys.executable, "-c", code], env=others | environment, check=True, stdout=subprocess.PIPE)
    after = json.loads(printed.stdout)
    return {name: after[name] for name in _ABOUT_WAITING if name in after}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_prepares_its_process_before_torch_is_there(chapter):
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert _told(f'overrides = {{}}\nexec(compile({code!r}, "{chapter.name}", "exec"))') == {
        "torch": False,
        "device": "auto",
    }


@pytest.mark.parametrize("command", ["train", "test", "inference_benchmark"])
def test_a_command_prepares_its_process_before_torch_is_there(command):
    line = [command, "--synthetic_dataset", "--device", "cpu"]
    assert _told(f"from dlrm_lib.__main__ import main\nmain({line!r})") == {"torch": False, "device": "cpu"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"GOMP_SPINCOUNT": "50000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_how_threads_wait_is_left_to_the_user_who_says_it(given, found):
    assert _waits(given) == found
