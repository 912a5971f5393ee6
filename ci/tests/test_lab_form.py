"""The form without a browser: setting a widget's value is what a person's hand does."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
from ipywidgets import Checkbox, Dropdown, SelectionSlider, Text

from dlrm_lib.config import PRESETS, Config, TrainingConfig, as_dict, fields
from dlrm_lib.errors import InputError
from dlrm_lib.lab.form import ESSENTIAL, Form

LAPTOP = Config.from_preset("laptop")
DECLARED = {f.name: f for section, f in fields() if section in ESSENTIAL}
# Values that are not the laptop's and agree with the rest of it.
OTHERS = {
    "auc_threshold": "0.8",
    "bottom_mlp_sizes": "8,16",
    "top_mlp_sizes": "5,1",
    "device": "cpu",
    "max_table_size": None,
    "decay_power": "2",
}


def values(config: Config) -> dict:
    return {name: value for section in ESSENTIAL for name, value in as_dict(getattr(config, section)).items()}


def shown_error(form: Form, name: str) -> str:
    """The text below a field, without that of the help."""
    return form.fields[name].widget.children[-1].value.split('<div class="dlrm-help">')[0]


def with_errors(form: Form) -> set[str]:
    return {name for name in form.names if shown_error(form, name)}


@pytest.fixture
def form() -> Form:
    return Form(LAPTOP)


def test_every_setting_of_the_model_and_of_training_has_a_field(form):
    assert set(form.names) == set(DECLARED)
    assert form.names[:12] == sum(ESSENTIAL.values(), ())
    for name, field in form.fields.items():
        assert f"dlrm-field-{name}" in field.widget._dom_classes
        assert DECLARED[name].metadata["help"] in field.entry.tooltip
        assert DECLARED[name].metadata["help"].replace("'", "&#x27;") in field.widget.children[-1].value


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_shown(form, preset):
    config = Config.from_preset(preset)
    told = []
    form.observe(told.append)
    form.show(config)
    assert told == [config]
    assert form.config == config == Form(config).config
    assert form.preset.value == preset
    for name, field in form.fields.items():
        value = getattr(config.model if hasattr(config.model, name) else config.training, name)
        assert field.value == value
        if field.slider and value is not None:
            assert field.slider.value == nearest(value, field.slider.options)
    assert not with_errors(form)
    assert form.back.disabled


def nearest(value, stops):
    return min(stops, key=lambda stop: abs(math.log(stop or 1e-12) - math.log(value or 1e-12)))


def test_sliders_span_what_is_usual_and_stand_at_its_end_for_a_value_beyond_it(form):
    slider = form.fields["lr"].slider
    assert (slider.options[0], slider.options[-1]) == (1e-3, 10.0) == DECLARED["lr"].metadata["usual"]
    ratios = [b / a for a, b in zip(slider.options, slider.options[1:], strict=False)]
    assert all(1.15 < ratio < 1.35 for ratio in ratios)
    for preset, lr in (("criteo_terabyte", 28.0), ("gaudi_medium", 1e-5)):
        form.show(Config.from_preset(preset))
        assert slider.value == (10.0 if lr > 1 else 1e-3)
        assert form.config.training.lr == lr
    assert (slider.options[0], slider.options[-1]) == (1e-3, 10.0)
    assert form.fields["batch_size"].slider.options == tuple(2**power for power in range(6, 17))


@pytest.mark.parametrize("name", DECLARED)
def test_moving_a_widget_changes_that_setting_alone(form, name):
    told = []
    form.observe(told.append)
    for needed, wanted in DECLARED[name].metadata["needs"].items():
        if wanted and values(LAPTOP)[needed] not in wanted:
            return  # below
    entry, before = form.fields[name].entry, values(LAPTOP)
    if name in OTHERS and isinstance(entry, Text):
        typed = OTHERS[name] or "none"
        entry.value = typed
        expected = LAPTOP.override(**{name: typed})
    elif isinstance(entry, Checkbox):
        entry.value = not before[name]
        expected = LAPTOP.override(**{name: not before[name]})
    elif isinstance(entry, Dropdown):
        other = next(value for _, value in entry.options if value != before[name])
        entry.value = other
        expected = LAPTOP.override(**{name: other})
    else:
        typed = 503 if name == "decay_start_step" else 3  # after the warmup
        entry.value = str(typed)
        extra = {"bottom_mlp_sizes": (64, 32, 3)} if name == "embedding_dim" else {}
        expected = LAPTOP.override(**{name: typed}, **extra)
    assert form.config == expected
    assert told[-1:] == ([expected] if expected != LAPTOP else [])
    assert ("dlrm-changed" in form.fields[name].widget.children[0].value) == (values(expected)[name] != before[name])


@pytest.mark.parametrize("name", [name for name, f in DECLARED.items() if f.metadata["usual"]])
def test_a_slider_types_its_value(form, name):
    field = form.fields[name]
    for needed, wanted in DECLARED[name].metadata["needs"].items():
        if wanted and form.fields[needed].value not in wanted:
            form.fields[needed].entry.value = wanted[0]
    assert isinstance(field.slider, SelectionSlider)
    told = []
    form.observe(told.append)
    last = field.slider.options[-1]
    field.slider.value = last
    assert field.value == last
    assert len(told) == 1
    assert values(form.config)[name] == last


def test_a_typed_number_is_taken_exactly_and_the_slider_goes_there(form):
    form.fields["lr"].entry.value = "0.0123"
    assert form.config.training.lr == 0.0123
    assert form.fields["lr"].slider.value == 0.012
    form.fields["batch_size"].entry.value = "3000"
    assert form.config.training.batch_size == 3000
    assert form.fields["batch_size"].slider.value == 4096
    form.fields["batch_size"].slider.value = 2048
    assert form.config.training.batch_size == 2048


def test_what_comes_to_do_nothing_shows_its_default_and_comes_back(form):
    for name, other in (("optimizer", "sgd"), ("interaction_op", "cat"), ("interaction_op", "dcn")):
        before = values(LAPTOP)[name]
        form.fields[name].entry.value = other
        assert form.config == LAPTOP.override(**{name: other})
        assert not with_errors(form)
        form.fields[name].entry.value = before
        assert form.config == LAPTOP
    form.fields["interaction_op"].entry.value = "dcn"
    form.fields["cross_rank"].entry.value = "8"
    assert form.config == LAPTOP.override(interaction_op="dcn", cross_rank=8)
    form.fields["interaction_op"].entry.value = "dot"
    assert form.config == LAPTOP


def test_a_value_that_would_do_nothing_is_complained_of_where_it_was_typed(form):
    form.fields["cross_rank"].entry.value = "8"
    assert form.config is None
    assert with_errors(form) == {"cross_rank"}
    form.fields["interaction_op"].entry.value = "dcn"
    assert form.config == LAPTOP.override(interaction_op="dcn", cross_rank=8)


def test_no_value_and_zero_need_no_place_on_a_slider(form):
    form.fields["embedding_epsilon"].entry.value = "none"
    form.fields["embedding_decay"].entry.value = "0"
    assert (form.config.training.embedding_epsilon, form.config.training.embedding_decay) == (None, 0.0)


@pytest.mark.parametrize(
    ("name", "typed", "sentence"),
    [
        ("bottom_mlp_sizes", "64,x,16", "--bottom_mlp_sizes takes whole numbers separated by commas."),
        ("bottom_mlp_sizes", "64,32,8", "The bottom MLP must end in a vector as long as an embedding."),
        ("top_mlp_sizes", "64,2", "The top MLP must end in one number, the click&#x27;s logit."),
        ("embedding_dim", "0", "--embedding_dim must be at least 1."),
        ("lr", "fast", "--lr takes a finite number."),
        ("lr", "<b>1", "found: &lt;b&gt;1"),
        ("batch_size", "2.5", "--batch_size takes a whole number."),
        ("epochs", "-1", "--epochs must be at least 0."),
        ("warmup_steps", "1.5", "--warmup_steps takes a whole number, or a share below 1."),
        ("decay_start_step", "0.1", "The decay must not start before the warmup ends."),
        ("max_table_size", "5", "--max_table_size needs --hash_indices"),
        ("loss_scale", "big", "--loss_scale takes a finite number or dynamic."),
        ("seed", "", "--seed takes a whole number."),
    ],
)
def test_a_wrong_value_is_named_below_its_field(form, name, typed, sentence):
    told = []
    form.observe(told.append)
    good = form.fields[name].entry.value
    form.fields[name].entry.value = typed
    assert form.config is None
    assert told == [None]
    assert sentence in shown_error(form, name)
    assert with_errors(form) == {name}
    form.fields["print_freq"].entry.value = "7"  # another field works, and takes no blame
    assert form.config is None
    assert with_errors(form) == {name}
    form.fields[name].entry.value = good
    assert form.config == told[-1] == LAPTOP.override(print_freq=7)
    assert not with_errors(form)


def test_what_contradicts_stands_below_the_field_that_was_changed_last(form):
    form.fields["decay_start_step"].entry.value = "0.1"
    assert with_errors(form) == {"decay_start_step"}
    form.fields["warmup_steps"].entry.value = "0.2"
    assert with_errors(form) == {"warmup_steps"}
    form.fields["decay_start_step"].entry.value = "0.2"
    assert form.config == LAPTOP.override(warmup_steps=0.2, decay_start_step=0.2)


def test_two_rows_orders_exclude_each_other(form):
    form.fields["shuffle_rows"].entry.value = True
    form.fields["shuffle_batch_order"].entry.value = True
    assert with_errors(form) == {"shuffle_batch_order"}
    form.fields["shuffle_rows"].entry.value = False
    assert form.config == LAPTOP.override(shuffle_batch_order=True)


def contradictory(monkeypatch, **fields) -> None:
    """From now on an lr of 0.5 does not go with seed 7; the sentence names another setting."""
    check = TrainingConfig.__post_init__

    def refuse(self: TrainingConfig) -> None:
        check(self)
        if (self.lr, self.seed) == (0.5, 7):
            raise InputError("These two do not agree, whatever epochs is.", **fields)

    monkeypatch.setattr(TrainingConfig, "__post_init__", refuse)


def test_who_is_to_blame_is_what_the_error_says_not_what_its_text_mentions(form, monkeypatch):
    contradictory(monkeypatch, fields=("seed", "lr"))
    form.fields["epochs"].entry.value = "3"
    form.fields["lr"].entry.value = "0.5"
    form.fields["seed"].entry.value = "7"
    form.fields["epochs"].entry.value = "2"
    assert with_errors(form) == {"seed"}
    form.fields["lr"].entry.value = "0.4"
    assert form.config == LAPTOP.override(epochs=2, seed=7, lr=0.4)
    form.fields["lr"].entry.value = "0.5"
    assert with_errors(form) == {"lr"}


def test_an_error_that_blames_no_field_is_not_hidden(form, monkeypatch):
    contradictory(monkeypatch)
    form.fields["lr"].entry.value = "0.5"
    with pytest.raises(InputError, match="do not agree"):
        form.fields["seed"].entry.value = "7"


def test_all_errors_are_shown_at_once(form):
    form.fields["bottom_mlp_sizes"].entry.value = "64,32,8"
    form.fields["top_mlp_sizes"].entry.value = "64,2"
    form.fields["lr"].entry.value = "x"
    form.fields["warmup_steps"].entry.value = "1.5"
    assert with_errors(form) == {"bottom_mlp_sizes", "top_mlp_sizes", "lr", "warmup_steps"}


def test_the_last_bottom_layer_follows_the_embedding(form):
    told = []
    form.observe(told.append)
    form.fields["embedding_dim"].slider.value = 64
    assert told == [LAPTOP.override(embedding_dim=64, bottom_mlp_sizes="64,32,64")]
    form.fields["bottom_mlp_sizes"].entry.value = "x"
    form.fields["embedding_dim"].slider.value = 8
    assert with_errors(form) == {"bottom_mlp_sizes"}  # whether it contradicts is not known
    form.fields["bottom_mlp_sizes"].entry.value = "8"
    assert form.config.model.bottom_mlp_sizes == (8,)


def test_the_preset_is_the_way_back(form):
    form.fields["lr"].entry.value = "0.5"
    form.fields["top_mlp_sizes"].entry.value = "x"
    form.fields["loss_scale"].entry.value = "dynamic"
    form.fields["hash_indices"].entry.value = True
    assert form.widget.children[-1].titles == ("More model settings (1 changed)", "More training settings (1 changed)")
    told = []
    form.observe(told.append)
    assert not form.back.disabled
    form.back.click()
    assert told == [LAPTOP] == [form.config]
    assert form.back.disabled
    assert form.widget.children[-1].titles == ("More model settings", "More training settings")
    form.preset.value = "criteo_kaggle"
    assert told[1:] == [Config.from_preset("criteo_kaggle")]
    assert all("dlrm-changed" not in field.widget.children[0].value for field in form.fields.values())


def test_a_changed_field_names_the_preset_s_value(form):
    form.fields["lr"].entry.value = "0.5"
    assert "In the preset: 0.01" in form.fields["lr"].widget.children[0].value


def test_settings_without_a_field_stay_as_they_are():
    config = LAPTOP.override(rows=77, lr=0.5, dataset_subset=0.5)
    form = Form(config, ["batch_size", "embedding_dim"])
    assert form.names == ("batch_size", "embedding_dim")
    assert form.config == config
    form.fields["embedding_dim"].slider.value = 4
    assert form.config == config.override(embedding_dim=4, bottom_mlp_sizes="64,32,4")
    form.fields["batch_size"].entry.value = "5"
    assert form.config == config.override(embedding_dim=4, bottom_mlp_sizes="64,32,4", batch_size=5)
    with pytest.raises(InputError, match=r"no such setting[\s\S]*found: learning_rate"):
        Form(config, ["lr", "learning_rate"])


def test_choices_that_cannot_run_here_come_last_and_can_be_chosen(form, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("here an NVIDIA GPU is best")
    options = {name: [value for _, value in form.fields[name].entry.options] for name in ("device", "precision")}
    labels = {value: label for label, value in form.fields["device"].entry.options}
    assert options["device"][:2] == ["auto", "cpu"]
    assert labels["cuda"] == "cuda (not on this machine)"
    assert options["precision"][-1] == "tf32" or "bf16" in options["precision"][-2:]
    form.fields["device"].entry.value = "cuda"
    assert form.config.training.device == "cuda"


def test_help_is_shown_on_demand(form):
    assert "dlrm-explained" not in form.widget._dom_classes
    form.explain.value = True
    assert "dlrm-explained" in form.widget._dom_classes
    form.explain.value = False
    assert "dlrm-explained" not in form.widget._dom_classes


def test_importing_the_form_does_not_load_torch():
    code = "import sys, dlrm_lib.lab.form; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_usual_values_are_in_range_and_ascend():
    with_usual = [f for _, f in fields() if f.metadata["usual"]]
    assert {"lr", "batch_size", "embedding_dim", "epochs", "embedding_epsilon", "embedding_decay", "warmup_steps"} <= {
        f.name for f in with_usual
    }
    for f in with_usual:
        usual = f.metadata["usual"]
        assert list(usual) == sorted(set(usual))
        if str(f.type).startswith("float"):
            assert len(usual) == 2
            assert usual[0] > 0
        for value in usual:
            extra = {"bottom_mlp_sizes": (value,)} if f.name == "embedding_dim" else {}
            extra |= {name: wanted[0] for name, wanted in f.metadata["needs"].items() if wanted}
            dataclasses.replace(LAPTOP, training=dataclasses.replace(LAPTOP.training, decay_steps=0)).override(
                **{f.name: value}, **extra
            )
