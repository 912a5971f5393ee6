"""Models on later data sets of their lineage: what they score, how they are trained further, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from encoded import later_dataset, random_dataset, write_split

from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.model import DLRM
from dlrm_lib.model.embedding import EmbeddingTables
from dlrm_lib.optim import OPTIMIZERS
from dlrm_lib.training import (
    Results,
    build,
    evaluate,
    fit,
    further,
    load_checkpoint,
    load_state,
    predict,
    save_checkpoint,
    save_state,
    state_path,
)
from dlrm_lib.training.growth import Growth

DEVICE = pick("cpu")
SMALL = {"batch_size": 64, "epochs": 1, "embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (8, 1)}
CONFIG = Config.from_preset("smoke", SMALL)  # standardised numbers; Adam with a decay of embeddings
IDS, MORE = (3, 7, 200), (0, 5, 40)
ROWS = (300, 60, 90)
RULES = {
    "adam": {"interaction_lasso": 0.1, "lasso_start_step": 2},
    "adagrad": {"lr": 0.05},
    "rowwise_adagrad": {"lr": 0.05},
    "sgd": {"lr": 0.5},
}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("first") / "encoded", rows=ROWS, cardinalities=IDS)


@pytest.fixture(scope="module")
def later(first, tmp_path_factory):
    return later_dataset(first, tmp_path_factory.mktemp("later") / "encoded", MORE, rows=ROWS)


def left(folder, dataset, config=CONFIG):
    """A training of one pass, its model and its state in a folder."""
    training = build(config, dataset, backend=DEVICE)
    list(fit(training))
    path = folder / "model.safetensors"
    save_checkpoint(path, training, metrics={"step": training.step.done})
    save_state(state_path(path), training, Results())
    return path, training


@pytest.fixture(scope="module")
def kept(first, tmp_path_factory):
    return left(tmp_path_factory.mktemp("kept"), first)


def scores(model, split):
    return predict(DEVICE.inference(model), split, batch_size=37)


def old_ids_only(later, folder):
    """The later rows as its ancestor's vocabulary encodes them: ids that came since are unseen values."""
    spec = dataclasses.replace(later.spec, cardinalities=IDS)
    for name in SPLITS:
        split = getattr(later, name)
        ids = np.stack([np.where(of < known, of, 0) for of, known in zip(split.categorical, IDS, strict=True)], 1)
        write_split(folder / name, spec, split.label, split.numerical, ids)
    spec.write(folder / "feature_spec.yaml")
    entry = later.manifest.lineage[-1]
    dataclasses.replace(later.manifest, cardinalities=list(IDS), vocabulary=entry["vocabulary"]).write(folder)
    return EncodedDataset(folder)


@pytest.mark.parametrize(
    "change",
    [{}, {"linear": True, "embed_numbers": True}, {"interaction_op": "cat"}, {"interaction_op": "dcn"}],
    ids=["dot", "linear", "cat", "dcn"],
)
def test_ids_that_the_model_does_not_know_score_as_its_own_vocabulary_would_have_it(first, later, tmp_path, change):
    path, training = left(tmp_path, first, CONFIG.override(**change))
    frozen = old_ids_only(later, tmp_path / "frozen")
    unknown = sum((ids >= known).sum() for ids, known in zip(later.test.categorical, IDS, strict=True))
    assert unknown > 20
    model, _ = load_checkpoint(path, later)
    assert model.spec == later.spec
    assert np.array_equal(scores(model, later.test), scores(training.model, frozen.test))


def test_a_model_to_be_trained_scores_the_old_ids_as_before_and_has_vectors_for_the_new_ones(first, later, kept):
    path, training = kept
    DEVICE.seed(5)
    model, config = load_checkpoint(path, later, to_train=True)
    assert np.array_equal(scores(model, first.test), scores(training.model, first.test))
    DEVICE.seed(5)
    new = DLRM(later.spec, config.model).tables
    spread = set()
    for column, (old, more) in enumerate(zip(IDS, MORE, strict=True)):
        of, like_new, before = (
            tables.weight[start : start + size]
            for tables in (model.tables, new, training.model.tables)
            for start, size in [(int(tables.offsets[column]), int(tables.sizes[column]))]
        )
        assert torch.equal(of[:old], before)
        assert torch.equal(of[old:], like_new[old:])
        assert len(of) == old + more
        spread |= set(of[old:].flatten().tolist())
        assert of[old:].abs().amax() <= (old + more) ** -0.5 if more else True
    assert len(spread) == 4 * sum(MORE)
    DEVICE.seed(6)
    assert not torch.equal(load_checkpoint(path, later, to_train=True)[0].tables.weight, model.tables.weight)


@pytest.mark.parametrize("rule", RULES)
def test_a_further_training_is_that_of_a_model_which_had_all_rows_from_the_start(first, later, tmp_path, rule):
    """The oracle never grows: its tables have rows for later ids from the start, which nothing touches until then."""
    config = CONFIG.override(optimizer=rule, **RULES[rule])
    path, _ = left(tmp_path, first, config)
    small = build(config, first, backend=DEVICE)
    large = build(config, later, backend=DEVICE)
    drawn = large.model.tables.weight.clone()
    large.model.load_state_dict({**small.model.state_dict(), "tables.weight": _put(small.model.tables.weight, drawn)})
    large.dataset, large.train = first, first.train
    list(fit(large))
    optimizer = large.step.optimizer
    old_rows = _put(torch.ones(sum(IDS), dtype=bool), torch.zeros(len(drawn), dtype=bool))
    if rule == "adam":  # new rows are as if they had been seen when this training began
        assert (optimizer.state["seen"][~old_rows] == 0).all()
        optimizer.state["seen"][~old_rows] = int(optimizer.state["steps"])
    large.step.done, large.dataset, large.train = 0, later, later.train
    large.config = dataclasses.replace(config, training=build(config, later, backend=DEVICE).settings)
    list(fit(large))

    training, origin = further(path, config, later, DEVICE)
    assert (training.step.done, origin.optimizer_step) == (0, 5)
    list(fit(training))
    assert training.steps == 5
    for name, tensor in large.model.state_dict().items():
        assert torch.equal(training.model.state_dict()[name], tensor), name
    for name, tensor in large.step.state_dict().items():
        assert torch.equal(training.step.state_dict()[name], tensor), name


def _put(rows, large):
    """Rows of the small tables in their places among those of the large ones."""
    large, start, place = large.clone(), 0, 0
    for old, more in zip(IDS, MORE, strict=True):
        large[place : place + old] = rows[start : start + old]
        start, place = start + old, place + old + more
    return large


def test_the_rows_of_bags_keep_their_row_of_zeros():
    now, then = (4, 9), (2, 9)
    tables = EmbeddingTables(now, 3, indices_per_lookup=2)
    small = torch.arange(36.0).view(12, 3)
    growth = Growth(tables, then)
    growth.kept_rows(tables.weight).copy_(small)
    assert growth.new_rows().tolist() == [2, 3]
    assert torch.equal(tables.weight[[0, 1, *range(4, 14)]], small)
    growth.score_as_id_0(tables.weight)
    assert torch.equal(tables.weight[[2, 3]], small[[0, 0]])
    without = Growth(EmbeddingTables((), 3), ())
    assert without.new_rows().tolist() == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_begins_with_rows_as_if_they_were_seen_just_now(rule):
    spec = FeatureSpec(numerical=1, cardinalities=(9,))
    config = CONFIG.override(optimizer=rule)
    optimizer = OPTIMIZERS[rule].of(DLRM(spec, config.model), config.training)
    for tensor in optimizer.state.values():
        tensor.fill_(7)
    optimizer.begin_rows(torch.tensor([2, 5]))
    for name, tensor in optimizer.state.items():
        expected = torch.full_like(tensor, 7)
        if name not in ("steps", "seen"):
            expected[[2, 5]] = 0
        assert torch.equal(tensor, expected), name


def test_what_only_new_ids_tell_is_learned_from_later_rows(first, kept, tmp_path):
    def click(numerical, ids):
        return np.where(ids[:, 2] >= 250, 0.9, 0.1)

    shown = later_dataset(first, tmp_path / "shown", (0, 0, 200), rows=(4000, 0, 1000), click=click)
    model, _ = load_checkpoint(kept[0], shown)
    before = evaluate(DEVICE.inference(model), shown.test, batch_size=1000)
    training, _ = further(kept[0], CONFIG.override(epochs=2, lr=0.05, embedding_decay=0.0), shown, DEVICE)
    list(fit(training))
    after = evaluate(training.inference, shown.test, batch_size=1000)
    assert before.auc < 0.6
    assert after.auc > 0.8


def test_the_sentence_and_the_origin(first, later, kept, tmp_path):
    _, origin = further(kept[0], CONFIG, later, DEVICE)
    assert str(origin) == (
        f"Starts from {kept[0]} after its step 5, on 300 later rows with 45 ids that are new to it "
        "(cat_1 5, cat_2 40); the optimizer goes on after its step 5."
    )
    frozen = later_dataset(first, tmp_path / "frozen", (0, 0, 0), rows=ROWS)
    assert str(further(kept[0], CONFIG, frozen, DEVICE)[1]).endswith(
        "later rows with 0 ids that are new to it; the optimizer goes on after its step 5."
    )
    own, origin = further(kept[0], CONFIG, first, DEVICE)
    assert str(origin) == f"Starts from {kept[0]} after its step 5, on 300 rows; the optimizer begins anew."
    assert not any(tensor.any() for tensor in own.step.optimizer.state.values())
    assert torch.equal(own.model.tables.weight, kept[1].model.tables.weight)
    json.dumps(dataclasses.asdict(origin))


def test_a_state_that_does_not_fit_is_left_alone(first, later, kept, tmp_path):
    path, _ = kept
    alone = shutil.copy(path, tmp_path / "alone.safetensors")
    for name in ("seed", "plain"):
        (tmp_path / name).mkdir()
    seed, _ = left(tmp_path / "seed", first, CONFIG.override(seed=7))
    shutil.copy(path, seed)  # beside the state of another seed
    plain, _ = left(tmp_path / "plain", first, CONFIG.override(embedding_decay=0.0))
    for model, changes in ((alone, {}), (seed, {}), (path, {"optimizer": "adagrad"}), (plain, {})):
        training, origin = further(model, CONFIG.override(**changes), later, DEVICE)
        assert str(origin).endswith("begins anew, for no training state that fits is beside the model.")
        assert not any(tensor.any() for tensor in training.step.optimizer.state.values())
    without_decay, origin = further(path, CONFIG.override(embedding_decay=0.0), later, DEVICE)
    assert (origin.optimizer_step, int(without_decay.step.optimizer.state["steps"])) == (5, 5)
    damaged = shutil.copy(path, tmp_path / "damaged.safetensors")
    content = bytearray(state_path(path).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    start += json.loads(content[8:start])["step.sparse.mean"]["data_offsets"][0]
    content[start] ^= 1
    state_path(damaged).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.state\.safetensors is damaged: "):
        further(damaged, CONFIG, later, DEVICE)


def test_a_grown_model_comes_back_and_its_run_goes_on(first, later, kept, tmp_path):
    training, _ = further(kept[0], CONFIG.override(epochs=2), later, DEVICE)
    list(fit(training, stop=lambda: training.step.done == 3))
    path = tmp_path / "grown.safetensors"
    save_checkpoint(path, training, metrics={"step": 3})
    save_state(state_path(path), training, Results())
    again, _ = load_checkpoint(path, later)
    assert all(torch.equal(again.state_dict()[n], t) for n, t in training.model.state_dict().items())
    resumed, _ = load_state(state_path(path), CONFIG.override(epochs=2), later, DEVICE)
    for one in (training, resumed):
        list(fit(one))
    assert all(torch.equal(resumed.model.state_dict()[n], t) for n, t in training.model.state_dict().items())
    # and the next day, for which the first model is still good
    third = later_dataset(later, tmp_path / "third", (1, 0, 3), day=2, rows=ROWS)
    grown, origin = further(path, CONFIG, third, DEVICE)
    assert (origin.new_ids, origin.optimizer_step) == ({"cat_0": 1, "cat_2": 3}, 3)
    assert np.array_equal(scores(grown.model, later.test), scores(again, later.test))
    oldest, _ = load_checkpoint(kept[0], third)
    assert np.array_equal(scores(oldest, first.test), scores(kept[1].model, first.test))


def test_a_run_goes_on_by_settings_that_were_left_to_the_rows_of_its_model(first, later, tmp_path):
    left_open = dataclasses.replace(CONFIG.model, embed_numbers=None, linear=None)
    path, _ = left(tmp_path, first, CONFIG.override(embed_numbers=False, linear=False))
    training, _ = further(path, dataclasses.replace(CONFIG, model=left_open), later, DEVICE)
    save_state(state_path(path), training, Results())
    resumed, _ = load_state(state_path(path), dataclasses.replace(CONFIG, model=left_open), later, DEVICE)
    assert resumed.config.model == training.config.model
    assert not resumed.config.model.linear  # so few rows would have it
    with pytest.raises(InputError, match="--linear has changed"):
        load_state(state_path(path), CONFIG.override(linear=True), later, DEVICE)


def test_what_does_not_fit_is_refused_by_its_cause(first, later, kept, tmp_path):
    grown, _ = further(kept[0], CONFIG, later, DEVICE)
    of_later = tmp_path / "later.safetensors"
    save_checkpoint(of_later, grown, metrics={})
    sibling = later_dataset(first, tmp_path / "sibling", MORE, day=7, rows=ROWS)
    hashed, _ = left(tmp_path, first, CONFIG.override(hash_indices=True, max_table_size=5))
    shrunk = Manifest.read(shutil.copytree(later.folder, tmp_path / "shrunk"))
    FeatureSpec(numerical=4, cardinalities=(3, 6, 240), numeric_rules=later.spec.numeric_rules).write(
        tmp_path / "shrunk" / "feature_spec.yaml"
    )
    dataclasses.replace(shrunk, cardinalities=[3, 6, 240]).write(tmp_path / "shrunk")
    wider = random_dataset(tmp_path / "wider", rows=ROWS, cardinalities=IDS, numerical=5)
    dataclasses.replace(wider.manifest, lineage=later.manifest.lineage).write(wider.folder)
    for path, dataset, sentence in (
        (of_later, first, r"cat_1: 12 ids then, 7 now \(its rows are those of an earlier data set of the model's line"),
        (of_later, sibling, r"the vocabulary: .* \(both vocabularies grew out of one, each by values of its own\)"),
        (hashed, later, "hash_indices, by which ids share .*\n  remedy: Encode the rows with --vocabulary alone, with"),
        (kept[0], EncodedDataset(tmp_path / "shrunk"), "cat_1: 7 ids then, 6 now"),
        (kept[0], EncodedDataset(wider.folder), "numerical columns: 4 then, 5 now"),
    ):
        for load in (load_checkpoint, lambda path, dataset: further(path, CONFIG, dataset, DEVICE)):
            with pytest.raises(InputError) as error:
                load(path, dataset)
            assert re.search(sentence, str(error.value)), error.value
            assert len(str(error.value).splitlines()) == 3
    load_checkpoint(hashed, later_dataset(first, tmp_path / "frozen", (0, 0, 0), rows=ROWS))
    with pytest.raises(InputError, match=r"(?s)by a run on other rows.*vocabulary was extended: 210 ids then, 255 now"):
        load_state(state_path(kept[0]), CONFIG, later, DEVICE)
    same_rows = copy.copy(later)
    same_rows.manifest = dataclasses.replace(later.manifest, source=first.manifest.source)
    with pytest.raises(InputError, match="vocabulary was extended: 210 ids then, 255 now"):
        load_state(state_path(kept[0]), CONFIG, same_rows, DEVICE)


def test_day_by_day_by_commands(first, later, tmp_path, capsys):
    flags = ["--preset=smoke", "--device=cpu", "--batch_size=64", "--epochs=1", f"--log_path={tmp_path / 'log'}"]
    yesterday, today = (f"--{kind}_checkpoint_path={tmp_path / 'm.safetensors'}" for kind in ("load", "save"))
    assert main(["train", *flags, f"--dataset={first.folder}", today]) == 0
    assert main(["test", *flags, f"--dataset={later.folder}", yesterday]) == 0
    capsys.readouterr()
    assert main(["train", *flags, f"--dataset={later.folder}", yesterday, today]) == 0  # in its place
    out, said = capsys.readouterr()
    assert f"Starts from {tmp_path / 'm.safetensors'} after its step 5, on 300 later rows with 45 ids" in said
    assert "the optimizer goes on after its step 5." in said
    assert "saved: " in out
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert logged[0]["origin"]["new_ids"] == {"cat_1": 5, "cat_2": 40}
    assert main(["train", *flags, f"--dataset={later.folder}", today, "--epochs=2", "--resume"]) == 0
    assert main(["test", *flags, f"--dataset={first.folder}", yesterday]) == 2
    assert "an earlier data set of the model's lineage" in capsys.readouterr().err
    assert main(["train", *flags, f"--dataset={later.folder}", yesterday, "--interaction_op=cat"]) == 2
    assert "dot in the checkpoint, cat on the command line" in capsys.readouterr().err
