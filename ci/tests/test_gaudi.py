"""The device of Intel Gaudi, with a stand-in for Habana's plugin whose tensors live on the processor."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoded import random_dataset
from fake_plugin import FAKE_HABANA, fake_plugin
from test_coalesced import BAGS, MODEL, bags

from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.backends.gaudi import environment
from dlrm_lib.backends.gaudi.backend import Hpu
from dlrm_lib.backends.gaudi.step import CoalescedStep
from dlrm_lib.config import Config, TrainingConfig
from dlrm_lib.dataset import RandomDataset
from dlrm_lib.doctor import examine
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.training import build, evaluate, fit

SMALL = [
    *("train", "--preset", "gaudi_medium", "--synthetic_dataset_table_sizes=500", "--synthetic_dataset_rows=100"),
    *("--num_numerical_features=6", "--embedding_dim=4", "--bottom_mlp_sizes=8,4", "--top_mlp_sizes=8,1"),
    *("--batch_size=16", "--lr=0.01", "--print_freq=3"),
]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plugin(monkeypatch):
    """The stand-in can be imported, in the mode that the environment then says, and its tensors are the processor's."""
    monkeypatch.setattr(Hpu, "torch_type", "cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    with fake_plugin():
        yield


def calls():
    """What the stand-in was asked to do since it was asked last, in order."""
    noted = sys.modules["habana_frameworks.torch"].calls
    found = list(noted)
    noted.clear()
    return found


def trained(device, **settings):
    torch.manual_seed(1)
    settings = {"optimizer": "adagrad", "warmup_steps": 0, "lr": 0.05, "precision": "fp32", **settings}
    model = DLRM(BAGS, MODEL)
    step = device.training_step(model, device.resolved(TrainingConfig(**settings), model, rows=1600))
    return model, step, [step(step.prepare(bags(seed)), 0.05).item() for seed in range(3)]


@pytest.mark.parametrize("words", [["--device", "hpu"], ["--base_device=hpu", "--execution=lazy", "--precision=bf16"]])
@pytest.mark.parametrize("command", ["train", "inference_benchmark"])
def test_without_a_gaudi_one_sentence_and_2(words, command, capsys):
    assert main([command, "--preset=gaudi_medium", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[:2] == ["No Intel Gaudi can be used here.", "  found: no module habana_frameworks"]
    assert len(error) == 3
    assert environment.LAZY_MODE not in os.environ


def test_a_plugin_is_no_card(plugin, monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module("habana_frameworks.torch.hpu"), "is_available", lambda: False)
    assert main(["train", "--preset=gaudi_medium", "--device=hpu"]) == 2
    assert "found: the plugin is installed and finds no card" in capsys.readouterr().err
    assert pick("auto").torch_device.type == "cpu"
    assert not isinstance(pick("auto"), Hpu)
    assert next(f.found for f in examine() if f.name == "Intel Gaudi") == "plugin without a card"


@pytest.mark.parametrize("error", [AssertionError("built for torch 2.5"), OSError("libSynapse.so: no such file")])
def test_a_plugin_that_cannot_be_loaded_says_why(plugin, monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(InputError, match=rf"No Intel Gaudi can be used here[\s\S]*cannot be loaded \(\w+: {error}\)"):
        pick("hpu")
    assert not isinstance(pick("auto"), Hpu)


def test_a_gaudi_is_taken_where_there_is_one(plugin):
    device = pick("auto")
    assert isinstance(device, Hpu)
    assert pick("auto", "compile").resolved_execution("auto") == "compile"
    assert device.description == "Intel Gaudi (GAUDI2)"
    assert next(f for f in examine() if f.name == "Intel Gaudi").fine


@pytest.mark.parametrize(
    ("execution", "mode", "ways"),
    [
        ("auto", "0", {"auto": "compile", "compile": "compile", "eager": "eager"}),
        ("compile", "0", {"auto": "compile", "compile": "compile", "eager": "eager"}),
        ("eager", "0", {"eager": "eager"}),
        ("lazy", "1", {"auto": "lazy", "lazy": "lazy"}),
    ],
)
def test_the_mode_is_set_before_the_plugin_is_imported(plugin, monkeypatch, execution, mode, ways):
    modes, load = [], importlib.import_module

    def noted(name):
        if name.startswith("habana_frameworks"):
            modes.append({v: os.environ.get(v) for v in (environment.LAZY_MODE, *environment.OPERATOR_LISTS)})
        return load(name)

    monkeypatch.setattr(importlib, "import_module", noted)
    device = pick("hpu", execution)
    assert {seen[environment.LAZY_MODE] for seen in modes} == {mode}
    for variable in environment.OPERATOR_LISTS:
        with open(modes[0][variable], encoding="utf-8") as file:
            assert file.read().splitlines()
    assert {name: device.resolved_execution(name) for name in ways} == ways
    other = "eager" if execution == "lazy" else "lazy"
    with pytest.raises(InputError, match=r"needs the other mode"):
        device.resolved_execution(other)
    with pytest.raises(InputError, match=r"PT_HPU_LAZY_MODE"):
        pick("hpu", other)


def test_the_best_device_is_picked_in_the_mode_that_is_asked_for(plugin):
    device = pick("auto", "lazy")
    assert (type(device), device.resolved_execution("auto")) == (Hpu, "lazy")


def test_what_the_user_has_set_stays(plugin, monkeypatch):
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    monkeypatch.setenv("PT_HPU_AUTOCAST_FP32_OPS_LIST", "mine.txt")
    assert pick("hpu").resolved_execution("auto") == "lazy"
    assert os.environ["PT_HPU_AUTOCAST_FP32_OPS_LIST"] == "mine.txt"
    with pytest.raises(
        InputError, match=r"--execution compile needs PT_HPU_LAZY_MODE=0[\s\S]*found: PT_HPU_LAZY_MODE=1"
    ):
        pick("hpu", "compile")


def test_lazy_mode_after_the_plugin_was_loaded_comes_too_late(plugin):
    importlib.import_module("habana_frameworks.torch")
    with pytest.raises(InputError, match=r"comes too late[\s\S]*Start anew with PT_HPU_LAZY_MODE=1"):
        pick("hpu", "lazy")
    assert pick("hpu", "compile").resolved_execution("auto") == "compile"


@pytest.mark.parametrize("command", ["train", "test", "inference_benchmark"])
def test_the_command_line_sets_the_environment_before_it_imports_torch(command):
    """On a Gaudi machine importing torch imports the plugin, which reads the environment once."""
    program = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def noted(name, *rest, **more):\n"
        "    if name == 'torch' and 'torch' not in sys.modules:\n"
        "        print('mode', os.environ.get('PT_HPU_LAZY_MODE'), flush=True)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = noted\n"
        "from dlrm_lib.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    line = [command, "--preset=gaudi_medium", "--device=hpu", "--execution=lazy", "--load_checkpoint_path=x"]
    done = subprocess.run(
        [sys.executable, "-c", program, *line],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKE_HABANA), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[0] == "mode 1", done.stderr


def test_what_prepares_the_environment_imports_no_torch():
    code = "import sys; from dlrm_lib.backends.gaudi import environment; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_operator_lists_hold_what_habana_published():
    bf16, fp32 = ((environment._FOLDER / name).read_text().split("\n") for name in environment.OPERATOR_LISTS.values())
    # ops_bf16_dlrm.txt of HabanaAI/Model-References at 4b841ff8.
    assert set(bf16) == {"addmm", "bmm", "dot", "mm", "mv", "linear", ""}
    assert {"binary_cross_entropy", "mse_loss", "binary_cross_entropy_with_logits", "index_select"} < set(fp32)
    assert not set(bf16) & set(fp32) - {""}
    for names in (bf16, fp32):  # The plugin takes every line whole, and knows no comments.
        assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names[:-1])
        assert all(hasattr(torch.ops.aten, name) for name in names[:-1])
        assert names[-1] == ""


def test_precisions_and_what_is_refused(plugin):
    device = pick("hpu")
    assert [device.resolved_precision(name) for name in ("auto", "bf16", "fp32")] == ["bf16", "bf16", "fp32"]
    for name in ("fp16", "tf32"):
        with pytest.raises(InputError, match=rf"{name} is not there on Gaudi[\s\S]*--precision bf16"):
            device.resolved_precision(name)
    with pytest.raises(InputError, match="CUDA graphs need an NVIDIA GPU"):
        device.resolved_execution("graph")


def test_on_a_processor_lazy_mode_is_eager():
    assert pick("cpu").resolved_execution("lazy") == "eager"
    (_, _, lazy), (_, _, eager) = (trained(pick("cpu"), execution=name) for name in ("lazy", "eager"))
    assert lazy == eager


def test_lazy_steps_mark_after_backward_and_after_the_update(plugin):
    device = pick("hpu", "lazy")
    _, step, losses = trained(device, execution="lazy")
    assert isinstance(step, CoalescedStep)
    update = ["FusedAdagrad: mark_step", "FusedAdagrad.step"]
    assert calls() == ["FusedAdagrad: mark_step", *["mark_step", *update, "mark_step"] * 3]
    assert step.optimizer.dense.param_groups[0]["lr_t"].item() == pytest.approx(0.05)
    device.synchronize()
    assert calls() == ["mark_step", "synchronize"]
    _, _, cpu = trained(pick("cpu"), execution="eager")
    assert losses == pytest.approx(cpu, abs=1e-6)


def test_eager_steps_take_torchs_adagrad_and_mark_nothing(plugin):
    _, step, losses = trained(pick("hpu", "eager"), execution="eager")
    assert calls() == []
    assert type(step.optimizer.dense) is torch.optim.Adagrad
    assert step.optimizer.dense.param_groups[0]["foreach"] is False
    _, _, cpu = trained(pick("cpu"), execution="eager")
    assert losses == pytest.approx(cpu, abs=1e-6)


@pytest.mark.parametrize("execution", ["auto", "compile"])
def test_layers_are_compiled_by_the_plugins_backend(plugin, monkeypatch, execution):
    given = []
    monkeypatch.setattr(torch, "compile", lambda module, **settings: given.append(settings) or module)
    trained(pick("hpu", execution), execution=execution)
    assert given == [{"backend": "hpu_backend", "dynamic": False}] * 2


def test_a_schedule_in_lazy_mode_is_refused(plugin, capsys):
    assert main([*SMALL, "--device=hpu", "--execution=lazy", "--warmup_steps=5"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"--warmup_steps and --decay_steps would do nothing[\s\S]*found: warmup_steps 5", error), error
    assert len(error.strip().splitlines()) == 3


def test_the_layers_answer_from_an_hpu_graph_and_go_on_training(plugin):
    device = pick("hpu", "lazy")
    model, step, _ = trained(device, execution="lazy")
    split = RandomDataset(BAGS, test_rows=40, indices_per_lookup=6).test
    inference = device.inference(model, execution="lazy")
    calls()
    found = evaluate(inference, split, batch_size=15, step=3)
    recorded, replayed = (["graph: record"] * 2 + ["mark_step"], ["graph: replay"] * 2 + ["mark_step"])
    assert calls() == [*recorded, *replayed, *recorded]  # batches of 15, 15 and 10 rows
    plain = DLRM(BAGS, MODEL)
    plain.load_state_dict(model.state_dict())
    expected = evaluate(pick("cpu").inference(plain), split, batch_size=40, step=3)
    assert (found.auc, found.log_loss) == pytest.approx((expected.auc, expected.log_loss))
    # The next evaluation by the same function only replays; another function has graphs of its own.
    assert evaluate(inference, split, batch_size=15, step=3) == found
    assert calls() == [*replayed] * 3
    assert evaluate(device.inference(model, execution="lazy"), split, batch_size=15, step=3) == found
    assert calls() == [*recorded, *replayed, *recorded]
    step(step.prepare(bags(0)), 0.05)
    assert calls() == ["mark_step", "FusedAdagrad: mark_step", "FusedAdagrad.step", "mark_step"]


def test_seeds_and_copies(plugin, monkeypatch):
    pick("hpu").seed(7)
    assert calls() == ["manual_seed_all 7"]
    pinned = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor)
    batch = pick("hpu").put(bags(0))
    assert pinned == [part.shape for part in batch]
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    pick("hpu").put(bags(0))
    assert len(pinned) == 3


def fake_steps(*words):
    program = Path(__file__).with_name("fake_hpu_steps.py")
    paths = os.pathsep.join([str(program.parent), *sys.path])
    return subprocess.run(
        [sys.executable, str(program), *words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("execution", ["eager", "lazy"])
def test_steps_on_a_device_of_shapes_alone(execution):
    """No number is read, all operators are on the device, and they are the same ones at every step."""
    done = fake_steps(execution)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) == 9
    for first in (0, 3, 6):
        assert steps[first] == steps[first + 1] == steps[first + 2]
    operators = [call for calls in steps for call in calls]
    # But for torch's Adagrad, which counts its steps on the host.
    assert {tensor for _, *tensors in operators for tensor in tensors if "hpu" not in tensor} <= {
        "((), torch.float32, 'cpu')"
    }
    names = {name.split(".")[1] for name, *_ in operators}
    assert {"index_select", "index_copy_", "embedding", "embedding_dense_backward", "addmm", "cat"} <= names
    # These run on the host there, may lose additions, or have a size that depends on numbers.
    assert not names & {"_embedding_bag", "index_add", "index_add_", "scatter_add", "scatter_add_"}
    assert not names & {"nonzero", "_unique2", "unique_dim", "masked_select"}


def test_a_number_that_is_read_is_noticed():
    done = fake_steps("eager", "read")
    assert done.returncode == 1
    assert "DataDependentOutputException" in done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("execution", ["lazy", "eager"])
def test_the_four_published_demos(plugin, tmp_path, capsys, execution, precision):
    line = [*SMALL, "--device=hpu", f"--precision={precision}", f"--execution={execution}"]
    assert main([*line, "--log_path=log.json", "--save_checkpoint_path=model.safetensors"]) == 0
    lines = [json.loads(text) for text in (tmp_path / "log.json").read_text().splitlines()]
    progress = [line for line in lines if line["what"] == "progress"]
    assert [(line["step"], line["steps"]) for line in progress] == [(3, 6), (6, 6)]  # 100 rows: 6 whole batches of 16
    assert all(0 <= line["accuracy"] <= 1 for line in progress)
    assert "accuracy: 0." in capsys.readouterr().out
    assert lines[0]["device"] == "Intel Gaudi (GAUDI2)"


def test_a_resumed_run_on_a_gaudi_ends_as_one_that_was_not_interrupted(plugin, tmp_path):
    line = [*SMALL, "--device=hpu", "--execution=lazy", "--precision=fp32", "--synthetic_dataset_rows=96"]
    assert main([*line, "--save_checkpoint_path=whole.safetensors"]) == 0
    assert main([*line, "--save_checkpoint_path=parts.safetensors", "--max_steps=4"]) == 0
    assert main([*line, "--save_checkpoint_path=parts.safetensors", "--resume"]) == 0
    from safetensors.torch import load_file

    whole, parts = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_preset_trains_on_a_processor(tmp_path, capsys):
    assert main([*SMALL, "--device=cpu", "--precision=bf16", "--max_steps=5", "--log_path=log.json"]) == 0
    progress = [json.loads(text) for text in (tmp_path / "log.json").read_text().splitlines()]
    assert [(line["step"], line["accuracy"]) for line in progress if line["what"] == "progress"] == [
        (3, None),
        (5, None),
    ]
    assert "average training throughput" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_presets_made_for_adam_train_with_adagrad(plugin, monkeypatch, tmp_path, preset):
    monkeypatch.setattr(torch, "compile", lambda module, **settings: module)
    dataset = random_dataset(tmp_path / "encoded", rows=(1024, 200, 200))
    line = ["train", f"--preset={preset}", "--optimizer=adagrad", f"--dataset={dataset.folder}", "--batch_size=256"]
    ends = []
    for device in ("hpu", "cpu"):
        where = [f"--device={device}", "--precision=fp32", f"--log_path={device}.json", "--epochs=2"]
        assert main([*line, *where]) == 0
        ends.append(json.loads((tmp_path / f"{device}.json").read_text().splitlines()[-1])["last_auc"])
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)


def test_bags_of_one_size_are_a_flag(tmp_path):
    for flag in ("--num_indices_per_lookup_fixed", "--nonum_indices_per_lookup_fixed"):
        assert main([*SMALL, "--device=cpu", flag, "--max_steps=1", "--log_path=log.json"]) == 0
        about = json.loads((tmp_path / "log.json").read_text().splitlines()[0])
        assert about["config"]["data"]["num_indices_per_lookup_fixed"] is not flag.startswith("--no")


@pytest.mark.parametrize("execution", ["eager", "lazy"])
def test_training_ends_in_an_evaluation(plugin, execution):
    settings = TrainingConfig(batch_size=8, optimizer="adagrad", lr=0.01, warmup_steps=0, execution=execution)
    config = replace(Config.from_preset("smoke"), model=MODEL, training=settings)
    dataset = RandomDataset(BAGS, train_rows=40, validation_rows=20, test_rows=0, indices_per_lookup=6)
    training = build(config, dataset, backend=pick("hpu", execution))
    assert (training.settings.execution, training.settings.precision) == (execution, "bf16")
    progress, evaluation = fit(training)
    assert (progress.step, evaluation.step, evaluation.rows) == (5, 5, 20)


def test_all_evaluations_of_a_training_replay_the_graphs_of_the_first(plugin):
    settings = TrainingConfig(
        batch_size=8, optimizer="adagrad", lr=0.01, warmup_steps=0, execution="lazy", test_freq=2, test_batch_size=20
    )
    config = replace(Config.from_preset("smoke"), model=MODEL, training=settings)
    dataset = RandomDataset(BAGS, train_rows=48, validation_rows=20, test_rows=0, indices_per_lookup=6)
    list(fit(build(config, dataset, backend=pick("hpu", "lazy"))))
    assert [call for call in calls() if call.startswith("graph")] == ["graph: record"] * 2 + ["graph: replay"] * 4


@pytest.mark.parametrize(
    ("execution", "optimizer", "expected"),
    [
        ("lazy", "adagrad", "FusedAdagrad"),
        ("lazy", "rowwise_adagrad", "FusedAdagrad"),
        ("lazy", "sgd", "SGD"),
        ("eager", "adagrad", "Adagrad"),
        ("eager", "rowwise_adagrad", "Adagrad"),
        ("eager", "sgd", "SGD"),
    ],
)
def test_habanas_adagrad_is_there_in_lazy_mode_alone(plugin, execution, optimizer, expected):
    _, step, losses = trained(pick("hpu", execution), execution=execution, optimizer=optimizer)
    assert type(step.optimizer.dense).__name__ == expected
    assert step.optimizer.dense.param_groups[0]["lr"] == 0.05
    _, _, cpu = trained(pick("cpu"), execution="eager", optimizer=optimizer)
    assert losses == pytest.approx(cpu, abs=1e-6)


def test_one_id_per_feature_is_answered_as_the_model_answers(plugin):
    from test_fused_step import batch, model

    for changed in ({}, {"hash_indices": True, "max_table_size": 7}, {"linear": True}, {"interaction_op": "dcn"}):
        network, rows = model(**changed), batch(0)
        with torch.inference_mode():
            expected = network(rows.numerical, rows.categorical)
        assert torch.allclose(pick("hpu").inference(network, "fp32")(rows), expected, atol=1e-6)
        assert pick("hpu").inference(network, "bf16")(rows).tolist() == pytest.approx(expected.tolist(), abs=0.05)
