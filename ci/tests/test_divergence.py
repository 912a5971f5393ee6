"""Training that goes wrong stops with a diagnosis, before anything spoilt is written."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from encoded import random_dataset

from dlrm_lib.backends import pick
from dlrm_lib.config import Config
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import TrainingDiverged
from dlrm_lib.model.layers import Standardise
from dlrm_lib.training import Evaluation, Progress, build, fit, save_checkpoint
from dlrm_lib.training.diagnosis import diagnose
from dlrm_lib.training.divergence import DivergenceMonitor
from dlrm_lib.training.strange_numbers import strange_numbers

DEVICE = pick("cpu")
CONFIG = Config.from_preset(
    "smoke",
    {
        "standardise": False,
        "batch_size": 100,
        "epochs": 2,
        "optimizer": "sgd",
        "lr": 0.1,
        "warmup_steps": 0,
        "decay_start_step": 18,
        "decay_steps": 158,
        "print_freq": 3,
        "test_freq": 4,
    },
)
STEPS = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("encoded"), rows=(1000, 200, 50), cardinalities=(3, 50, 400))


def new(dataset, **changed):
    return build(CONFIG.override(seed=1, **changed), dataset, backend=DEVICE)


def new_model(dataset):
    return new(dataset).model


def diagnosis_of(model, dataset, **more):
    about = {"what": "What was seen.", "lr": 0.1, "precision": "fp32", "loss_scale": 1.0, "skipped": 0, **more}
    batch = dataset.train.read(0, 100)
    return diagnose(model, batch, model.tables.row_ids(batch.categorical), **about)


def line(text, start):
    (found,) = (rest for rest in text.splitlines() if rest.strip().startswith(start))
    return found


def spoil(tensor, value=float("nan")):
    with torch.no_grad():
        tensor.view(-1)[0] = value


def until_it_diverges(training):
    events = []
    with pytest.raises(TrainingDiverged) as error:
        events.extend(fit(training))
    return events, str(error.value)


def poisoned(training, at, do):
    """The training, with something done to its model behind the update of one step."""
    step = training.step

    class Poisoned(type(step)):
        def __call__(self, batch, lr):
            loss = super().__call__(batch, lr)
            if self.done == at:
                do(self.model)
            return loss

    step.__class__ = Poisoned
    return training


# What stops a training


def test_a_learning_rate_beyond_all_bounds(dataset):
    events, text = until_it_diverges(new(dataset, lr=1e30))
    assert events == []
    assert re.match(r"The loss is (nan|inf) at step 3, the mean since step 0\.", text)
    assert "learning rate 1e+30, fp32" in text
    assert line(text, "remedy").startswith("  remedy: Lower --lr")
    assert "inputs:" not in text
    assert "--print_freq 1" in text
    assert 3 <= len(text.splitlines()) <= 8


def test_a_loss_that_runs_away_while_it_is_finite(dataset):
    events, text = until_it_diverges(new(dataset, lr=300.0, print_freq=1))
    assert all(e.loss <= 10 * np.log(2) for e in events if isinstance(e, Progress))
    loss = float(re.match(r"The loss is (\S+) at step", text)[1])
    assert 10 * np.log(2) < loss < np.inf
    assert "none; in fp32 the loss of the last batch is" in line(text, "first bad layer")


def test_inverted_labels_are_no_divergence(dataset, tmp_path):
    training = new(dataset)
    list(fit(training))
    inverted = random_dataset(tmp_path, rows=(1000, 200, 50), cardinalities=(3, 50, 400))
    for split in (inverted.train, inverted.validation):
        split.label = ~split.label
    assert inverted.train.label.mean() == pytest.approx(1 - dataset.train.label.mean())
    events = list(fit(build(CONFIG, inverted, backend=DEVICE, model=training.model)))
    assert events[-1].step == STEPS


def test_a_bad_start_is_no_divergence(dataset):
    # Scores far too large at first, as with numbers that were not normalised: the loss is above 7 and falls.
    training = new(dataset, lr=1e-4, print_freq=1)
    with torch.no_grad():
        training.model.top[-1].weight.mul_(300)
    events = list(fit(training))
    assert events[0].loss > 10 * np.log(2)
    assert events[-1].step == STEPS


@pytest.mark.parametrize("validation", [200, 0])
def test_weights_that_the_last_update_spoilt(tmp_path, validation):
    data = random_dataset(tmp_path, rows=(1000, validation, 0), cardinalities=(3, 50, 400))
    events, text = until_it_diverges(poisoned(new(data), STEPS, lambda m: spoil(m.top[2].weight)))
    assert events[-1].step < STEPS
    assert text.startswith("A weight is no longer finite after step 20")
    assert "top.2" in line(text, "first bad layer")


def test_an_embedding_row_that_no_batch_looks_up_again(dataset):
    training = new(dataset)
    unused = sorted(set(range(400)) - set(dataset.train.categorical[2]) - set(dataset.validation.categorical[2]))
    place = int(training.model.tables.offsets[2]) + unused[0]
    events, text = until_it_diverges(poisoned(training, 6, lambda m: m.tables.weight[place].fill_(float("inf"))))
    assert [e.step for e in events] == [3, 4, 4, 6]  # at the next evaluation, before it
    assert text.startswith("A weight is no longer finite after step 8")
    assert "1 of 453 embedding rows (categorical column cat_2)" in text


def test_finite_weights_that_only_the_evaluation_shows_to_be_spoilt(dataset):
    def enlarge(model):
        with torch.no_grad():
            for layer in (model.bottom[0], model.bottom[2], model.top[0], model.top[2]):
                layer.weight.mul_(1e12)

    events, text = until_it_diverges(poisoned(new(dataset), 4, enlarge))
    assert [type(e) for e in events] == [Progress, Progress]
    assert "is not a number" in text.splitlines()[0]
    assert "though its inputs and weights are" in line(text, "first bad layer")

    # Too large for any use, though not for float32: the log loss of the validation rows shows it.
    def turn(model):
        with torch.no_grad():
            model.top[-1].weight.mul_(-1e6)

    events, text = until_it_diverges(poisoned(new(dataset), 4, turn))
    assert text.startswith("The log loss on the validation split is")


def test_fp16_that_overflows_where_fp32_does_not(dataset):
    training = new(dataset, lr=0.0, precision="fp16")
    with torch.no_grad():
        training.model.bottom[0].weight.mul_(1e5)
        training.model.bottom[2].weight.mul_(1e-5)
    _, text = until_it_diverges(training)
    assert "fp16, loss scale 8192, 3 steps skipped" in text
    assert "none; in fp32 the loss of the last batch is" in text
    assert "--precision bf16" in line(text, "remedy")


def test_a_loss_scale_with_which_no_step_counts(dataset):
    training = new(dataset, precision="fp16", loss_scale=2.0**40, test_freq=None, epochs=9)
    model = training.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    events, text = until_it_diverges(training)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert text.startswith("No step since step 0 has changed the model: all gradients overflowed.")
    assert "lower --loss_scale" in line(text, "remedy")
    assert 12 <= events[-1].step < 21
    # A dynamic scale that begins as high comes down in time.
    training = new(dataset, precision="fp16", loss_scale="dynamic", epochs=9)
    training.step.loss_scale.scale.fill_(2.0**24)
    *_, last = fit(training)
    assert (last.step, training.step.skipped > 0) == (90, True)


def test_the_last_good_checkpoint_stays(dataset, tmp_path):
    path, written = tmp_path / "model.safetensors", []
    training = poisoned(new(dataset), 10, lambda m: spoil(m.bottom[0].weight))

    def train():
        for event in fit(training):
            if isinstance(event, Evaluation):
                save_checkpoint(path, training, metrics=dataclasses.asdict(event))
                written.append((event.step, path.read_bytes()))

    with pytest.raises(TrainingDiverged):
        train()
    assert [at for at, _ in written] == [4, 8]
    assert path.read_bytes() == written[-1][1]


def test_no_step_waits_for_the_device(dataset, monkeypatch):
    read = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: (read.append(self), item(self))[1])
    events = list(fit(new(dataset, print_freq=5)))
    progress = [e for e in events if isinstance(e, Progress)]
    assert len(progress) == 8  # every 5th and every 4th step of 20
    assert len(read) <= 3 * len(progress)  # the loss of the interval, that of the first step, its limit


# What the diagnosis says


@pytest.mark.parametrize("name", ["bottom.0", "bottom.2", "bottom.4", "top.0", "top.2", "top.4"])
def test_a_spoilt_weight_in_any_layer_is_named(dataset, name):
    model = new_model(dataset)
    spoil(model.get_submodule(name).weight)
    text = diagnosis_of(model, dataset)
    assert line(text, "first bad layer").startswith(f"  first bad layer: {name} (Linear): ")
    assert "nor are its weights" in line(text, "first bad layer")
    assert line(text, "weights that are not finite") == f"  weights that are not finite: {name} (1 of 6 layers)"


def test_spoilt_embeddings_are_counted_by_column(dataset):
    model = new_model(dataset)
    batch = dataset.train.read(0, 100)
    spoil(model.tables.weight[int(model.tables.offsets[1]) + int(batch.categorical[0, 1])], float("inf"))
    spoil(model.tables.weight[0])
    spoil(model.tables.weight[-1])
    text = diagnosis_of(model, dataset)
    looked_up = " cat_1" if int(batch.categorical[:, 0].min()) else "s cat_0, cat_1"
    assert line(text, "first bad layer").endswith(f"embeddings of categorical column{looked_up}")
    expected = "3 of 453 embedding rows (categorical columns cat_0, cat_1, cat_2)"
    assert line(text, "weights that are not finite") == f"  weights that are not finite: {expected}"


def test_bad_inputs_are_not_blamed_on_a_layer(dataset):
    model, batch = new_model(dataset), dataset.train.read(0, 100)
    numerical = batch.numerical.clone()
    numerical[7, 1] = float("inf")
    text = diagnose(
        model,
        Batch(numerical, batch.categorical, batch.label),
        model.tables.row_ids(batch.categorical),
        what="x",
        lr=0.1,
        precision="fp32",
        loss_scale=1.0,
        skipped=0,
    )
    assert "the numerical columns of the batch, which are not finite themselves" in text
    assert "encode the raw rows again" in text


def test_strange_numbers_in_the_judged_rows_come_before_the_learning_rate(tmp_path):
    data = random_dataset(tmp_path, rows=(1000, 200, 50), cardinalities=(3, 50, 400))
    numbers = data.validation.numerical.copy()
    numbers[20:, 2], numbers[21, 2], numbers[7, 3] = 5e4, 6e4, 100
    data.validation.numerical = numbers
    events, text = until_it_diverges(new(data))
    assert [type(event) for event in events] == [Progress, Progress]
    assert text.startswith("The log loss on the validation split is")
    # No logarithm of an integer of 64 bits is above 44.36.
    assert line(text, "inputs") == (
        "  inputs: numerical column num_2 is 6e+04 in row 21 of the validation split, and the model was made for "
        "-44.36 to 44.36: 180 of 200 rows are outside, as are some of 1 more column"
    )
    assert line(text, "remedy").startswith("  remedy: Look at this column first, from the raw rows on. If all is well")
    assert "Lower --lr" in line(text, "remedy")


def test_strange_numbers_in_the_last_batch_are_named(dataset):
    training = new(dataset, standardise=True)
    model = training.model
    batch = dataset.train.read(0, 1000)
    steady = batch.numerical.clone()
    steady[:, 1] = 2.0
    model.standardise.measure(steady)
    assert strange_numbers(model, steady, "the last batch") is None
    few, many = steady.clone(), steady.clone()
    few[:9, 1] = many[4:504, 1] = 5.0
    assert strange_numbers(model, few, "the last batch") is None  # the model bounds them
    many[40, 1] = 9.0
    assert strange_numbers(model, many, "the last batch") == (
        "numerical column num_1 is 9 in row 40 of the last batch, and the model was made for 1 to 3: 500 of 1,000 "
        "rows are outside"
    )
    # A model from before there were bounds, and before a constant got a deviation of 1: one such number is enough.
    model.standardise.low.fill_(-Standardise.unbounded)
    model.standardise.high.fill_(Standardise.unbounded)
    model.standardise.variance[1] = 0.0
    found = strange_numbers(model, few, "the last batch")
    assert found.startswith("numerical column num_1 is 5 in row 0 of the last batch, and the model was made for 1.905")
    text = diagnosis_of(model, dataset)  # where the same column has ordinary numbers
    assert "num_1" in line(text, "inputs")


def test_models_without_numbers_have_no_strange_ones(tmp_path):
    data = random_dataset(tmp_path, rows=(100, 10, 10), numerical=0)
    assert strange_numbers(new_model(data), data.train.read(0, 100).numerical, "the last batch") is None


def test_gradient_norms_equal_those_of_a_plain_model_in_float64(dataset):
    model, batch = new_model(dataset), dataset.train.read(0, 100)
    _, _, shown = line(diagnosis_of(model, dataset), "gradient norms").partition(": ")
    norms = {name: float(value) for name, value in (part.split() for part in shown.split(", "))}
    plain = new_model(dataset).double()
    embedded = torch.stack(
        [
            plain.tables.weight[start + ids.long()]
            for start, ids in zip(plain.tables.offsets, batch.categorical.T, strict=True)
        ],
        dim=1,
    ).requires_grad_()
    probability = torch.sigmoid(plain.dense(batch.numerical.double(), embedded))
    label = batch.label.double()
    (-(label * probability.log() + (1 - label) * (1 - probability).log()).mean()).backward()
    expected = {"embeddings": embedded.grad.norm().item()}
    for name in ("bottom.0", "bottom.2", "bottom.4", "top.0", "top.2", "top.4"):
        layer = plain.get_submodule(name)
        expected[name] = torch.cat([layer.weight.grad.flatten(), layer.bias.grad]).norm().item()
    assert norms == pytest.approx(expected, rel=6e-3)  # three digits are shown


def test_the_model_is_as_it_was(dataset):
    model = new_model(dataset)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    diagnosis_of(model, dataset)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("numerical", "cardinalities"), [(0, (5, 9)), (3, ())])
def test_models_without_numbers_or_without_categories(tmp_path, numerical, cardinalities):
    data = random_dataset(tmp_path, rows=(100, 10, 10), numerical=numerical, cardinalities=cardinalities)
    model = new_model(data)
    spoil(model.top[2].bias)
    assert "first bad layer: top.2" in diagnosis_of(model, data)


def test_a_single_weight_that_is_not_finite_is_found_wherever_it_is(dataset):
    training = new(dataset)
    model, watch = training.model, DivergenceMonitor(training.model, training.step)
    batch = dataset.train.read(0, 100)
    watch.see(torch.zeros(()), batch, 0.1)
    watch.check_weights()
    for tensor in model.state_dict().values():
        for value in (float("nan"), float("inf"), -float("inf")):
            old = tensor.view(-1)[-1].clone()
            tensor.view(-1)[-1] = value
            with pytest.raises(TrainingDiverged, match="A weight is no longer finite"):
                watch.check_weights()
            tensor.view(-1)[-1] = old
    watch.check_weights()
