"""What notebooks see of torch at work, and their commands."""

from __future__ import annotations

import pytest
import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.lab.terminal import in_terminal
from dlrm_lib.lab.watching import Recorder, functions_called, layer_types, programs_after_each
from dlrm_lib.model import DLRM


@pytest.mark.parametrize("numbers", [3, 0])
def test_layers_are_seen_with_the_types_that_autocast_gives_them(numbers):
    sizes = {"embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (6, 1)}
    model = DLRM(FeatureSpec(numerical=numbers, cardinalities=(5, 9)), ModelConfig(**sizes))
    batch = torch.ones(2, numbers), torch.zeros(2, 2, dtype=torch.int32)
    plain = layer_types(model, lambda: model(*batch))
    with torch.autocast("cpu", torch.bfloat16):
        half = layer_types(model, lambda: model(*batch))
    assert list(half) == [*(f"bottom.{i}" for i in range(4) if numbers), "interaction", "top.0", "top.1", "top.2"]
    assert {row[-1] for row in plain.values()} == {"float32"}
    assert half["interaction"] == ["DotInteraction", "bfloat16 + float32" if numbers else "float32", "", "bfloat16"]
    assert half["top.0"] == ["Linear", "bfloat16", "float32", "bfloat16"]
    assert half["top.1"] == ["ReLU", "bfloat16", "", "bfloat16"]


def test_nothing_is_watched_any_more_even_after_a_failure():
    model = DLRM(FeatureSpec(numerical=1, cardinalities=(5,)), ModelConfig())
    with pytest.raises(ZeroDivisionError):
        layer_types(model, lambda: 1 / 0)
    assert not any(part._forward_hooks for part in model.modules())


def test_a_graph_is_new_once():
    recorder = Recorder()
    for size in (2, 3, 2):
        with recorder:
            torch.ones(size) + 1
        recorder.cut()
        recorder.cut()  # of nothing
    assert recorder.ran == [(2, True), (2, True), (2, False)]


def test_a_program_is_made_for_each_shape():
    calls = [(torch.ones(size),) for size in (2, 3, 2, 4)]
    assert programs_after_each(lambda x: x + 1, calls) == [1, 2, 2, 3]


def test_functions_are_named_in_their_order_without_views_and_integers():
    x = torch.ones(2, 2)
    assert functions_called(lambda: torch.relu(x.T @ x).sum() + torch.arange(3).sum()) == [
        *("matmul", "relu", "sum", "add")
    ]


def test_a_notebook_s_command_is_shown_without_its_folder(capsys, tmp_path):
    done = in_terminal("train", "--preset=none", f"--log_path={tmp_path}/log", folder=tmp_path)
    assert capsys.readouterr().out == "python -m dlrm_lib train --preset=none --log_path=…/log\n"
    assert done.returncode == 2
    assert "There is no such preset." in done.stderr
