"""One setting on the screen, made from its declaration: what sets it, what is wrong with it, what it means."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import math
from collections.abc import Callable, Container
from typing import Any

from ipywidgets import HTML, Box, Checkbox, Dropdown, SelectionSlider, Text

from dlrm_lib.errors import InputError
from dlrm_lib.settings import as_text, check, parse


class Field:
    """A setting's name, beside it what sets it, and below it, where there is one, the error.

    Choices are a menu, yes or no is a box to tick, or a menu where it may be left open. All else is typed, so that any
    value can be given exactly; where the declaration says which values are usual, a slider types them. It stops at
    those alone, and stands at the nearest where another is typed: in a browser, a slider over a range rounds what was
    typed to steps of its own, and one whose stops change while it is moved jumps.

    Attributes:
        declaration: The dataclass field.
        entry: Text, Dropdown or Checkbox.
        slider: None where no values are usual.
        widget: All of it, of the class ``dlrm-field-<name>``.
    """

    def __init__(
        self, declaration: dataclasses.Field, changed: Callable[[str], None], absent: Container[str] = ()
    ) -> None:
        """
        Args:
            declaration: The dataclass field.
            changed: Called with the setting's name when a person has changed it.
            absent: Choices that this machine does not have. They come last and can be chosen all the same.
        """
        self.declaration, self._changed, self._moving = declaration, changed, False
        self.entry = self._entry(absent)
        self.slider = self._slider()
        self._label, self._note = HTML(), HTML()
        controls = [self.slider, self.entry] if self.slider else [self.entry]
        self.widget = Box([self._label, *controls, self._note])
        self.widget.add_class("dlrm-field").add_class(f"dlrm-field-{declaration.name}")
        if self.slider:
            self.widget.add_class("dlrm-slides")
        self.mark(None)
        self.complain(None)
        self.entry.observe(self._typed, "value")

    def _entry(self, absent: Container[str]) -> Text | Dropdown | Checkbox:
        f = self.declaration
        common = {"tooltip": f"{f.name}: {f.metadata['help']}"}
        if f.metadata["choices"]:
            names = sorted(f.metadata["choices"], key=lambda choice: choice in absent)
            options = [(f"{name} (not on this machine)" if name in absent else name, name) for name in names]
            return Dropdown(options=options, value=f.default, **common)
        if isinstance(f.default, bool) and "None" in str(f.type):
            return Dropdown(
                options=[(as_text(value), value) for value in (None, False, True)], value=f.default, **common
            )
        if isinstance(f.default, bool):
            return Checkbox(value=f.default, indent=False, **common)
        return Text(value=as_text(f.default), continuous_update=False, **common)

    def _slider(self) -> SelectionSlider | None:
        usual = self.declaration.metadata["usual"]
        if usual is None:
            return None
        stops = _round_numbers(*usual) if str(self.declaration.type).startswith("float") else usual
        slider = SelectionSlider(options=stops, readout=False)
        slider.observe(self._moved, "value")
        return slider

    @property
    def value(self) -> Any:
        """What is set.

        Raises:
            InputError: what is typed cannot be read, or is out of range.
        """
        value = parse(self.declaration, self.entry.value)
        check(self.declaration, value)
        return value

    def show(self, value: Any) -> None:
        """Sets the widgets to a value."""
        self.entry.value = value if isinstance(self.entry, Dropdown | Checkbox) else as_text(value)
        self._slide_to(value)

    def mark(self, preset: Any | None, *, changed: bool = False) -> None:
        """Shows whether the value is another than the preset's, and names that one."""
        name, text = self.declaration.name, self.declaration.metadata["help"]
        text += f". In the preset: {as_text(preset)}" if changed else ""
        kind = f"dlrm-name{' dlrm-changed' * changed}"
        self._label.value = f'<span class="{kind}" title="{html.escape(text)}">{name}</span>'

    def complain(self, error: str | None) -> None:
        """Shows an error's text, or that there is none."""
        text = f'<div class="dlrm-help">{html.escape(self.declaration.metadata["help"])}</div>'
        if error:
            what, *rest = (html.escape(line.strip()) for line in error.splitlines())
            text = (
                f'<div class="dlrm-error" role="alert"><b>{what}</b>{"".join(f"<br>{line}" for line in rest)}</div>'
                + text
            )
        if self._note.value != text:
            self._note.value = text

    def _typed(self, _: object) -> None:
        if self.slider and not self._moving:
            with contextlib.suppress(InputError):  # the form says what is wrong
                self._slide_to(self.value)
        self._changed(self.declaration.name)

    def _moved(self, event: dict[str, Any]) -> None:
        if not self._moving:
            self._moving = True
            self.entry.value = as_text(event["new"])
            self._moving = False

    def _slide_to(self, value: Any) -> None:
        """Moves the slider to its stop that is nearest on a logarithmic scale; no value has no place on it."""
        if self.slider is None or value is None:
            return

        def distance(stop: float) -> float:
            return abs(math.log(max(stop, 1e-12)) - math.log(max(value, 1e-12)))

        self._moving = True
        try:
            self.slider.value = min(self.slider.options, key=distance)
        finally:
            self._moving = False


def _round_numbers(least: float, most: float) -> list[float]:
    """Numbers of two digits from one to the other, at nearly equal distances on a logarithmic scale."""
    tens = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    numbers = [float(f"{digits}e{ten - 1}") for ten in tens for digits in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)]
    return [number for number in numbers if least <= number <= most]
