"""Checkpoints and training states as files: whole, unchanged, and readable by anyone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource

import numpy as np
import pytest
import torch
from encoded import random_dataset
from safetensors.torch import load_file

from dlrm_lib.backends import pick
from dlrm_lib.commands.model_inputs import checkpoint_path
from dlrm_lib.config import Config, as_dict
from dlrm_lib.errors import InputError
from dlrm_lib.numeric_rules import NUMERIC_RULES
from dlrm_lib.training import (
    Results,
    build,
    fit,
    load_checkpoint,
    load_state,
    predict,
    save_checkpoint,
    save_state,
    state_path,
)
from dlrm_lib.training.tensor_file import open_tensors, write_tensors

DEVICE = pick("cpu")
CONFIG = Config.from_preset(
    "smoke", {"batch_size": 256, "epochs": 1, "optimizer": "adagrad", "lr": 0.05, "flag_missing": True}
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("encoded"), cardinalities=(3, 7, 200))


@pytest.fixture(scope="module")
def trained(dataset):
    training = build(CONFIG, dataset, backend=DEVICE)
    list(fit(training))
    return training


@pytest.fixture(scope="module")
def good(dataset, trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    save_checkpoint(path, trained, metrics={"auc": 0.7})
    return path


def same(model, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def header_of(content):
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_facts(path, target, change):
    """The file with other facts about it, all checksums right."""
    with open_tensors(path) as file:
        about = file.about
    change(about)
    write_tensors(target, load_file(path), about)
    return target


def test_a_checkpoint_comes_back_whole(dataset, trained, good):
    loaded, config = load_checkpoint(good, dataset)
    assert config.model == CONFIG.model
    assert as_dict(config.training) == as_dict(trained.settings)
    assert loaded.spec == trained.model.spec == dataset.spec
    assert same(trained.model, loaded)
    a, b = (predict(DEVICE.inference(model), dataset.test, batch_size=99) for model in (trained.model, loaded))
    assert np.array_equal(a, b)
    assert [p.name for p in good.parent.iterdir()] == ["model.safetensors"]


def test_the_file_is_plain_safetensors(trained, good):
    # Once by the format's own reader, once by hand: a header in JSON and raw numbers, so nothing in it can run.
    expected = trained.model.state_dict()
    for name, tensor in load_file(good).items():
        assert torch.equal(tensor, expected.pop(name))
    assert not expected
    header, data = header_of(good.read_bytes())
    facts = json.loads(header.pop("__metadata__")["about"])
    assert (facts["kind"], facts["metrics"], facts["cardinalities"]) == ("checkpoint", {"auc": 0.7}, [3, 7, 200])
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        by_hand = np.frombuffer(data[start:end], {"F32": "<f4", "I64": "<i8"}[entry["dtype"]]).reshape(entry["shape"])
        assert np.array_equal(by_hand, trained.model.state_dict()[name].numpy())


@pytest.mark.parametrize(("numerical", "cardinalities"), [(0, (5, 9)), (3, ())])
def test_models_without_numbers_or_without_categories(tmp_path, numerical, cardinalities):
    data = random_dataset(tmp_path / "data", rows=(40, 10, 10), numerical=numerical, cardinalities=cardinalities)
    training = build(CONFIG, data, backend=DEVICE)
    save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
    save_state(tmp_path / "s.safetensors", training, Results())
    assert same(training.model, load_checkpoint(tmp_path / "m.safetensors", data)[0])
    assert same(training.model, load_state(tmp_path / "s.safetensors", CONFIG, data, DEVICE)[0].model)


def test_a_checkpoint_refuses_another_data_set(tmp_path, good):
    other = random_dataset(tmp_path / "other", seed=3, cardinalities=(3, 7, 200))
    with pytest.raises(InputError, match="another meaning than those of"):
        load_checkpoint(good, other)


@pytest.mark.parametrize("content", [b"", b"garbage that is not a checkpoint at all", b"\x02" + bytes(7) + b"{}"])
def test_a_file_that_is_no_checkpoint_is_named(dataset, tmp_path, content):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match=r"x\.safetensors does not exist"):
        load_checkpoint(path, dataset)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors is not a checkpoint"):
        load_checkpoint(path, dataset)


def test_every_truncation_and_every_flipped_bit_is_found(dataset, trained, good, tmp_path):
    content, path, rng = good.read_bytes(), tmp_path / "x.safetensors", np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    for length in [*range(9), header - 1, header, *rng.integers(header, len(content), 20), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            load_checkpoint(path, dataset)
    path.write_bytes(content + b"\0")
    with pytest.raises(InputError):
        load_checkpoint(path, dataset)
    harmless = 0
    for place in [*range(8), *rng.integers(8, header, 250), *rng.integers(header, len(content), 60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            loaded, config = load_checkpoint(path, dataset)
        except InputError:
            continue
        harmless += 1  # a blank between two words of the header may become another one
        assert place < header
        assert content[place] == ord(" ")
        assert same(trained.model, loaded)
        assert as_dict(config.training) == as_dict(trained.settings)
    assert harmless < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bottom.2.weight"), r"has no tensor bottom\.2\.weight"),
        (lambda t: t.update(extra=torch.zeros(2)), "has a tensor extra that nothing here takes"),
        (lambda t: t.update({"top.0.bias": torch.zeros(3)}), r"top\.0\.bias of another size"),
        (lambda t: t.update({"top.0.bias": t["top.0.bias"].double()}), r"float64 \[64\] in the file, float32 \[64\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(dataset, good, tmp_path, change, message):
    with open_tensors(good) as file:
        about = file.about
    tensors = load_file(good)
    change(tensors)
    write_tensors(tmp_path / "x.safetensors", tensors, about)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(tmp_path / "x.safetensors", dataset)
    assert "x.safetensors" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format=1), "another version of this program"),
        (lambda about: about.pop("kind"), "is no checkpoint"),
        (lambda about: about.update(preset="huge"), "configuration that this version does not know"),
        (lambda about: about["training"].update(new_setting=1), "configuration that this version does not know"),
    ],
)
def test_files_of_other_versions_are_refused(dataset, good, tmp_path, change, message):
    path = with_facts(good, tmp_path / "x.safetensors", change)
    with pytest.raises(InputError, match=message):
        load_checkpoint(path, dataset)


def test_a_checkpoint_from_before_inputs_were_bounded_computes_what_it_did(dataset, trained, good, tmp_path):
    with open_tensors(good) as file:
        about = file.about
    tensors = load_file(good)
    del tensors["standardise.low"], tensors["standardise.high"]
    write_tensors(tmp_path / "x.safetensors", tensors, {**about, "format": 3})
    loaded, _ = load_checkpoint(tmp_path / "x.safetensors", dataset)
    strange = torch.tensor([[3e4, -3e4, 0.0, 7.0]])
    of = trained.model.standardise
    assert torch.equal(loaded.standardise(strange), (strange - of.mean) * (of.variance + of.epsilon).rsqrt())
    assert not torch.equal(loaded.standardise(strange), of(strange))
    # One of this version has them, or is not whole.
    write_tensors(tmp_path / "y.safetensors", tensors, about)
    with pytest.raises(InputError, match=r"has no tensor standardise\.high"):
        load_checkpoint(tmp_path / "y.safetensors", dataset)


@pytest.mark.parametrize("rule", NUMERIC_RULES.values(), ids=lambda rule: rule.name)
def test_a_checkpoint_of_an_earlier_version_is_opened(dataset, trained, good, tmp_path, rule):
    def earlier(about):
        for name in ("numeric_rules", "indices_per_lookup", "vocabularies", "encoding", "source", "rows"):
            del about[name]
        del about["model"]["cross_layers"], about["model"]["cross_rank"]
        about["missing_number"] = rule.missing_number
        about["training"] |= {"decay_start_step": None, "precision": "auto", "device": "auto", "execution": "auto"}
        about["training"] |= {"interaction_lasso": 0.1, "lasso_start_step": 3}  # beside Adagrad they did nothing

    path = with_facts(good, tmp_path / "x.safetensors", earlier)
    if rule not in dataset.spec.numeric_rules:
        with pytest.raises(InputError, match=f"numeric_rule: {rule.name} then, log_x_plus_2 now"):
            load_checkpoint(path, dataset)
        return
    loaded, config = load_checkpoint(path, dataset)
    assert same(trained.model, loaded)
    assert loaded.spec == dataclasses.replace(dataset.spec, numeric_rules=(rule,) * dataset.spec.numerical)
    assert (config.model, config.training.interaction_lasso) == (CONFIG.model, 0.0)


def test_a_state_is_no_checkpoint_and_a_checkpoint_no_state(dataset, trained, good, tmp_path):
    save_state(tmp_path / "s.safetensors", trained, Results())
    with pytest.raises(InputError, match=r"s\.safetensors is no checkpoint"):
        load_checkpoint(tmp_path / "s.safetensors", dataset)
    with pytest.raises(InputError, match=r"model\.safetensors is no training state"):
        load_state(good, CONFIG, dataset, DEVICE)


def test_a_damaged_state_is_found(dataset, trained, tmp_path):
    path = tmp_path / "s.safetensors"
    save_state(path, trained, Results())
    content = path.read_bytes()
    header, data = header_of(content)
    start = len(content) - len(data)
    for name in ("step.sparse.squares", "step.done", "random.torch", "model.tables.weight"):
        damaged = bytearray(content)
        damaged[start + header[name]["data_offsets"][0]] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"is damaged: {name} does not fit"):
            load_state(path, CONFIG, dataset, DEVICE)


def test_a_full_disk_leaves_the_old_file(dataset, trained, good, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content := good.read_bytes())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=r"model\.safetensors could not be written"):
            save_checkpoint(path, trained, metrics={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_place_that_cannot_be_written_to_is_named(dataset, trained, good):
    with pytest.raises(InputError, match="could not be written"):
        save_checkpoint(good / "below a file", trained, metrics={})


def test_a_checkpoint_goes_where_its_link_leads(dataset, trained, tmp_path):
    disk, path = tmp_path / "disk", tmp_path / "model.safetensors"
    path.symlink_to(disk / "it.safetensors")  # which is not there yet
    for _ in range(2):
        save_checkpoint(path, trained, metrics={})
        save_state(state_path(path), trained, Results())
        assert sorted(file.name for file in disk.iterdir()) == ["it.safetensors", "it.state.safetensors"]
        assert path.is_symlink()
        (disk / "it.safetensors.partial-0a1b2c3d").write_bytes(b"of a process that was killed")
    model, _ = load_checkpoint(path, dataset)
    assert [*model.state_dict()] == [*trained.model.state_dict()]
    assert [file.name for file in tmp_path.iterdir() if file != disk] == [path.name]


def test_a_place_whose_file_cannot_be_replaced_is_refused_before_training(tmp_path):
    arguments = argparse.Namespace(output_dir=None)
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "file").write_text("")
    (tmp_path / "below").symlink_to(tmp_path / "file" / "model")
    for place, said in {"/dev/null": "found: no regular file", "a": "leads nowhere", "below": "no place"}.items():
        arguments.save_checkpoint_path = tmp_path / place
        with pytest.raises(InputError, match=said):
            checkpoint_path(arguments)
    for place in ("new/folder/model", "model"):
        arguments.save_checkpoint_path = tmp_path / place
        assert checkpoint_path(arguments) == tmp_path / place


def test_an_interrupted_write_leaves_the_old_file(dataset, trained, good, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content := good.read_bytes())

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, trained, metrics={})
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_a_killed_process_left_is_removed(dataset, trained, tmp_path):
    for name in ("m[1].safetensors.partial-01234567", "m1.safetensors.partial-01234567", "other"):
        (tmp_path / name).write_bytes(b"x")
    save_checkpoint(tmp_path / "m[1].safetensors", trained, metrics={})
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["m1.safetensors.partial-01234567", "m[1].safetensors", "other"]


def test_what_another_process_is_writing_is_left_to_it(dataset, trained, tmp_path, monkeypatch):
    # Another writes a whole checkpoint to the same path while this one is about to rename its own.
    path, fsync, once = tmp_path / "model.safetensors", os.fsync, iter([True])

    def meanwhile(descriptor):
        fsync(descriptor)
        if next(once, False):
            save_checkpoint(path, trained, metrics={"whose": "theirs"})

    monkeypatch.setattr("os.fsync", meanwhile)
    save_checkpoint(path, trained, metrics={"whose": "mine"})
    with open_tensors(path) as file:
        assert file.about["metrics"] == {"whose": "mine"}
    assert list(tmp_path.iterdir()) == [path]
