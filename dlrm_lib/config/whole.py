"""All settings together: presets with changes, and what a setting needs beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlrm_lib.config.data import DataConfig, PreprocessConfig, SyntheticConfig
from dlrm_lib.config.model import ModelConfig
from dlrm_lib.config.presets import PRESETS
from dlrm_lib.config.training import InferenceConfig, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.settings import as_text, parse


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a result: one section per stage of the pipeline."""

    preset: str = "laptop"
    synthetic: SyntheticConfig = SyntheticConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @classmethod
    def from_preset(cls, preset: str, overrides: Mapping[str, Any] | None = None) -> Config:
        """The named preset with some fields changed.

        Args:
            preset: A key of ``PRESETS``.
            overrides: Field name → value. Strings are parsed (`"64,32,16"` for layer sizes), lists become tuples.

        Raises:
            InputError: unknown preset or field, or a value outside its range; it names the field.

        Example:
            >>> config = Config.from_preset("laptop", {"lr": 0.005, "top_mlp_sizes": "64,1"})
            >>> config.training.lr, config.model.top_mlp_sizes
            (0.005, (64, 1))
            >>> config.flags(["training", "model"])
            ['--preset=laptop', '--top_mlp_sizes=64,1', '--lr=0.005']
        """
        if preset not in PRESETS:
            raise InputError("There is no such preset.", found=preset, remedy=f"Use one of: {', '.join(PRESETS)}.")
        return cls(preset=preset).override(**PRESETS[preset]).override(**(overrides or {}))

    @classmethod
    def without_idle(cls, preset: str, values: Mapping[str, Any]) -> Config:
        """As ``from_preset``, but values that would do nothing are left out: those an older version wrote down, say.

        Raises:
            InputError: as ``from_preset``.
        """
        together = {**{f.name: f.default for _, f in fields()}, **PRESETS.get(preset, {}), **values}
        useless = idle(together)
        return cls.from_preset(preset, {name: value for name, value in values.items() if name not in useless})

    def override(self, **values: Any) -> Config:
        """A copy with the named fields changed, whichever section they are in.

        Others that would do nothing beside them, as the decay of a preset's Adam does beside SGD, become their default.

        Raises:
            InputError: an unknown field, a value outside its range, or one that would do nothing; it names the field.
        """
        where = {f.name: (section, f) for section, f in fields()}
        for name in values:
            if name not in where:
                raise InputError(
                    "There is no such setting.", found=name, remedy=f"Settings are: {', '.join(sorted(where))}."
                )
        given = {name: parse(where[name][1], value) for name, value in values.items()}
        together = {
            name: given.get(name, getattr(getattr(self, section), name)) for name, (section, _) in where.items()
        }
        for name in (useless := idle(together)):
            if name in given:
                _refuse_idle(where[name][1], together)
        changed: dict[str, dict[str, Any]] = {}
        for name, value in {**given, **{name: where[name][1].default for name in useless}}.items():
            changed.setdefault(where[name][0], {})[name] = value
        return dataclasses.replace(
            self, **{section: dataclasses.replace(getattr(self, section), **v) for section, v in changed.items()}
        )

    def for_rows(self, rows: int) -> Config:
        """The same with the settings of model and training that follow from the number of training rows."""
        return dataclasses.replace(self, model=self.model.for_rows(rows), training=self.training.for_rows(rows))

    def flags(self, command_sections: Sequence[str]) -> list[str]:
        """The command-line flags for this configuration: its preset, then what differs from it in those sections."""
        preset = Config.from_preset(self.preset)
        changed = [f"--preset={self.preset}"]
        for section, f in fields():
            value = getattr(getattr(self, section), f.name)
            if section in command_sections and value != getattr(getattr(preset, section), f.name):
                off = "no" if value is False else ""
                changed.append(f"--{off}{f.name}" if isinstance(value, bool) else f"--{f.name}={as_text(value)}")
        return changed


def fields() -> list[tuple[str, dataclasses.Field]]:
    """Every setting as (section name, dataclass field), in reading order."""
    sections = [(f.name, f.default) for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.default)]
    return [(name, f) for name, section in sections for f in dataclasses.fields(section)]


def idle(values: Mapping[str, Any]) -> set[str]:
    """The settings, among all of them by name, whose value is not the default and does nothing beside the others."""
    values, found = dict(values), set()
    defaults = {f.name: f.default for _, f in fields()}
    needing = {f.name: f.metadata["needs"] for _, f in fields() if f.metadata["needs"]}
    for name, needs in itertools.chain(*itertools.repeat(needing.items(), 2)):  # twice: one may need another
        met = all(values[of] in wanted if wanted else values[of] != defaults[of] for of, wanted in needs.items())
        if not met and values[name] != defaults[name]:
            found.add(name)
            values[name] = defaults[name]  # as good as that for those that need it
    return found


def _refuse_idle(f: dataclasses.Field, values: dict[str, Any]) -> None:
    needed = f.metadata["needs"]
    said = [
        f"--{name} {' or '.join(map(as_text, wanted))}" if wanted else f"--{name}" for name, wanted in needed.items()
    ]
    raise InputError(
        f"--{f.name} needs {' and '.join(said)}: it would do nothing.",
        found=", ".join(f"{name} {as_text(values[name])}" for name in (f.name, *needed)),
        remedy=f"Leave --{f.name} out, or change what it needs.",
        fields=(f.name, *needed),
    )


def as_dict(section: Any) -> dict[str, Any]:
    """A configuration or section as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(section)))


def digest(value: Any) -> str:
    """A short, stable hash of JSON-ready data, used in manifests and checkpoints."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
