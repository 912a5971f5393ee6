"""A form for the configuration: a widget for every setting, made from its type, range, choices, default and help."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from ipywidgets import HTML, Accordion, Button, Dropdown, HBox, ToggleButton, VBox

from dlrm_lib.config import PRESETS, Config, fields, idle
from dlrm_lib.errors import InputError
from dlrm_lib.lab.field import Field
from dlrm_lib.lab.style import FORM

# What people try first, in the order of the screen; all other settings of these sections are one click away.
ESSENTIAL = {
    "model": ("embedding_dim", "bottom_mlp_sizes", "top_mlp_sizes", "interaction_op"),
    "training": ("optimizer", "lr", "batch_size", "epochs", "warmup_steps", "precision", "device", "seed"),
}


class Form:
    """Widgets that edit a configuration.

    A wrong value shows the library's own sentence below its field; one about several fields stands below the one among
    them that was changed last. Until all is mended there is no configuration.

    Attributes:
        widget: What to display.
        names: The settings that it has, in the order of the screen.
        fields: Name → ``Field``.
        preset: The menu of presets; choosing one sets all fields.
        back: The button that sets them to those of the preset again.
    """

    def __init__(self, config: Config, names: Iterable[str] | None = None) -> None:
        """
        Args:
            config: What to show first.
            names: Settings to have, all in view; by default all of the model and of training, those in view that people
                try first.

        Raises:
            InputError: there is no such setting.
        """
        self._section = {f.name: section for section, f in fields()}
        declared = {f.name: f for _, f in fields()}
        self._needs = {f.name: f.metadata["needs"] for _, f in fields()}
        self._default = {f.name: f.default for _, f in fields()}
        in_view = tuple(names) if names is not None else sum(ESSENTIAL.values(), ())
        config.override(**{name: None for name in in_view if name not in declared})
        hidden = [name for name, section in self._section.items() if names is None and section in ESSENTIAL]
        self.names = tuple(dict.fromkeys((*in_view, *hidden)))
        absent = _absent()
        self.fields = {name: Field(declared[name], self._changed, absent.get(name, ())) for name in self.names}
        self.preset = Dropdown(options=list(PRESETS), tooltip="a named configuration: sets all fields")
        self.back = Button(icon="undo", tooltip="set all fields as in the preset")
        self.explain = ToggleButton(icon="question", tooltip="what the settings mean")
        self._more = Accordion()
        self.widget = self._laid_out(in_view)

        self._told: list[Callable[[Config | None], None]] = []
        self._quiet = False
        self._touched: list[str] = []  # the fields that people changed, the latest at the end
        self.preset.observe(self._to_preset, "value")
        self.back.on_click(self._to_preset)
        self.explain.observe(self._explain, "value")
        self.show(config)

    @property
    def config(self) -> Config | None:
        """The configuration as it is set; None while a field is wrong."""
        return self._config

    def observe(self, callback: Callable[[Config | None], None]) -> None:
        """Has ``callback`` called with ``config`` after each change."""
        self._told.append(callback)

    def show(self, config: Config) -> None:
        """Sets every field, and tells of it once. Settings without a field are taken over too."""
        self._quiet = True
        try:
            self.preset.value = config.preset
            for name in self.names:
                self.fields[name].show(self._value(config, name))
        finally:
            self._quiet = False
        self._valid = self._shown = config
        self._touched = []
        self._judge()

    def _value(self, config: Config, name: str) -> Any:
        return getattr(getattr(config, self._section[name]), name)

    def _to_preset(self, _: object) -> None:
        if not self._quiet:
            self.show(Config.from_preset(self.preset.value))

    def _explain(self, event: dict[str, Any]) -> None:
        (self.widget.add_class if event["new"] else self.widget.remove_class)("dlrm-explained")

    def _changed(self, name: str) -> None:
        if self._quiet:
            return
        self._touched = [*(other for other in self._touched if other != name), name]
        if name == "embedding_dim":
            self._carry_bottom()
        self._carry_those_that_need(name)
        self._judge()

    def _carry_bottom(self) -> None:
        """The bottom MLP has to end in a vector as long as an embedding: its last layer follows."""
        bottom = self.fields.get("bottom_mlp_sizes")
        try:
            dim = self.fields["embedding_dim"].value
            sizes = (*(bottom.value if bottom else self._valid.model.bottom_mlp_sizes)[:-1], dim)
        except InputError:
            return
        if bottom is None:
            self._valid = self._valid.override(embedding_dim=dim, bottom_mlp_sizes=sizes)
            return
        self._quiet = True
        bottom.show(sizes)
        self._quiet = False

    def _carry_those_that_need(self, name: str) -> None:
        """Fields that come to do nothing beside a changed one show their default, and come back once they do something.

        What a person has typed stays while it does something.
        """
        needing = [other for other in self.names if self._needs[other]]
        if not any(name in self._needs[other] for other in needing):
            return
        given = {other: self._value(self._valid, other) for other in self._section}
        for other, field in self.fields.items():
            with contextlib.suppress(InputError):
                given[other] = field.value
        again = {other: self._value(self._shown, other) for other in needing if other not in self._touched}
        useless = idle({**given, **again})
        self._quiet = True
        for other in needing:
            if other in useless:
                self.fields[other].show(self._default[other])
            elif other in again:
                self.fields[other].show(again[other])
        self._quiet = False

    def _judge(self) -> None:
        """Finds the configuration or the errors, shows them, and tells of them."""
        values, errors = {}, {}
        for name, field in self.fields.items():
            try:
                values[name] = field.value
            except InputError as error:
                errors[name] = str(error)
        together = self._without_contradictions(values, errors)
        self._config = None if errors else together
        self._valid = self._config or self._valid
        preset = Config.from_preset(self._valid.preset)
        changed = {name for name in self.names if name in errors or values[name] != self._value(preset, name)}
        for name, field in self.fields.items():
            field.mark(self._value(preset, name), changed=name in changed)
            field.complain(errors.get(name))
        self.back.disabled = not changed
        self._count(changed)
        for callback in self._told:
            callback(self._config)

    def _without_contradictions(self, values: dict[str, Any], errors: dict[str, str]) -> Config:
        """The last valid configuration with those values that agree; adds to ``errors`` what is wrong with the rest."""
        values = dict(values)
        while True:
            try:
                return self._valid.override(**values)
            except InputError as error:
                named = [name for name in self.names if name in error.fields]
                if not named:  # the last valid configuration agrees with itself, so this is no one's typing
                    raise
                # What a field that cannot be read contradicts is not known yet.
                if not errors.keys() & set(named):
                    last = max(named, key=lambda name: name in self._touched and self._touched.index(name) + 1)
                    errors[last] = str(error)
                for name in named:
                    values.pop(name, None)

    def _laid_out(self, in_view: Iterable[str]) -> VBox:
        head = HBox([HTML('<span class="dlrm-name">preset</span>'), self.preset, self.back, self.explain])
        rest = [name for name in self.names if name not in in_view]
        parts = [HTML(f"<style>{FORM}</style>"), head.add_class("dlrm-head"), *self._grouped(in_view)]
        if rest:
            self._hidden = {section: [n for n in rest if self._section[n] == section] for section in ESSENTIAL}
            self._more.children = [VBox([self.fields[n].widget for n in of]) for of in self._hidden.values()]
            parts.append(self._more)
        return VBox(parts).add_class("dlrm-form")

    def _grouped(self, names: Iterable[str]) -> list[HTML | VBox]:
        shown: list[HTML | VBox] = []
        for section in dict.fromkeys(self._section[name] for name in names):
            shown.append(HTML(f'<div class="dlrm-heading">{section.capitalize()}</div>'))
            shown.append(VBox([self.fields[name].widget for name in names if self._section[name] == section]))
        return shown

    def _count(self, changed: set[str]) -> None:
        """Says on a closed lid how many fields below it differ from the preset."""
        if self._more.children:
            counts = [len(changed.intersection(of)) for of in self._hidden.values()]
            self._more.titles = tuple(
                f"More {section} settings" + (f" ({count} changed)" if count else "")
                for section, count in zip(self._hidden, counts, strict=True)
            )


def _absent() -> dict[str, set[str]]:
    """Choices that the best device of this machine does not have, by setting."""
    from dlrm_lib.backends import pick
    from dlrm_lib.backends.backend import PRECISIONS

    backend = pick("auto")

    def refused(ask: Callable[[str], str], names: Iterable[str]) -> set[str]:
        found = set()
        for name in names:
            try:
                ask(name)
            except InputError:
                found.add(name)
        return found

    return {
        "device": {"cuda", "hpu"} - {backend.torch_device.type},
        "precision": refused(backend.resolved_precision, PRECISIONS),
        "execution": refused(backend.resolved_execution, ("eager", "compile", "graph", "lazy")),
    }
