"""What a search chooses from: the usual values of some settings, and what else has to change along with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from dlrm_lib.config import Config, fields
from dlrm_lib.config.training import STEPS, in_steps
from dlrm_lib.dataset import Split
from dlrm_lib.errors import InputError

_NEAR = 30.0


def searchable() -> tuple[str, ...]:
    """The settings of the model and of training that say what is worth trying: usual values, choices, or yes and no."""
    return tuple(_searchable())


class SearchSpace:
    """The values that some settings may take, around a configuration.

    A range is continuous on a logarithmic scale, and ends at thirty times the configuration's own value, or a thirtieth
    of it. Whole numbers are searched by their place in the row of usual values, so that the search knows which are
    neighbours. The configuration's own value is added where it is not a usual one.

    Attributes:
        names: The settings, in the configuration's order.
        distributions: For Optuna, by name.
    """

    def __init__(self, config: Config, names: Iterable[str]) -> None:
        """
        Raises:
            InputError: no settings, or one that does not say which values are worth trying.
        """
        names, offered = set(names), _searchable()
        if not names or not names <= offered.keys():
            raise InputError(
                "A search needs settings that say which values are worth trying.",
                found=", ".join(sorted(names - offered.keys())) or "none",
                remedy=f"Choose among {', '.join(offered)}.",
            )
        self._config = config
        self.names = tuple(name for name in offered if name in names)
        self._rows = {name: _row(offered[name], self.own(name)) for name in self.names if _is_row(offered[name])}
        self.distributions: dict[str, BaseDistribution] = {
            name: _distribution(offered[name], self.own(name), self._rows.get(name)) for name in self.names
        }

    def own(self, name: str) -> Any:
        """The configuration's value."""
        return value_of(self._config, name)

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings' values for Optuna's parameters. Of a continuous one three digits are enough."""
        return {name: self._value(name, param) for name, param in params.items()}

    def place(self) -> dict[str, Any]:
        """The configuration as Optuna's parameters. Where a logarithm has no place for it (0, or none), the lowest."""
        return {name: self._place(name, self.own(name)) for name in self.names}

    def _value(self, name: str, param: Any) -> Any:
        if name in self._rows:
            return self._rows[name][param]
        return float(f"{param:.3g}") if isinstance(param, float) else param

    def _place(self, name: str, value: Any) -> Any:
        if name in self._rows:
            return self._rows[name].index(value)
        distribution = self.distributions[name]
        return (value or distribution.low) if isinstance(distribution, FloatDistribution) else value


def changed(config: Config, values: Mapping[str, Any], train: Split) -> Config:
    """The configuration with other values, and with what follows from them, except where ``values`` says it itself.

    With ``embedding_dim`` changes the bottom MLP's last layer. Where batches or epochs make the training longer or
    shorter, warmup, start of the decay, decay and start of the lasso keep their shares of it, given as such or not.
    Where the warmup would reach into the decay, the decay starts behind it and ends where it did.

    Args:
        config: The configuration as it stands.
        values: Setting → value.
        train: The rows that are trained on.

    Raises:
        InputError: the values contradict each other.
    """
    follow: dict[str, Any] = {}
    if "embedding_dim" in values:
        follow["bottom_mlp_sizes"] = (*config.model.bottom_mlp_sizes[:-1], values["embedding_dim"])
    old = config.training
    new = config.override(**{name: values[name] for name in ("batch_size", "epochs") if name in values}).training
    steps = new.steps(len(train))
    longer = steps / max(1, old.steps(len(train)))
    follow |= {name: _stretched(getattr(old, name), longer) for name in STEPS}
    if "warmup_steps" in values:
        before, warmup = follow["warmup_steps"], values["warmup_steps"]
        start, decay = follow["decay_start_step"], follow["decay_steps"]
        began = in_steps(before if start is None else start, steps)
        begins = max(in_steps(warmup, steps), 0 if start is None else began)
        if decay != 0 and begins != began:
            follow["decay_start_step"] = None if start is None else begins
            follow["decay_steps"] = decay and max(1, began + in_steps(decay, steps) - begins)  # none stays none
    kept = {f.name: getattr(getattr(config, section), f.name) for section, f in fields()}
    return Config.without_idle(config.preset, {**kept, **follow, **values})


def _stretched(setting: float | None, longer: float) -> float | None:
    """A number of steps in a training so many times as long; what is a share, none or left open stays what it is."""
    return max(1, round(setting * longer)) if setting is not None and setting >= 1 else setting


def value_of(config: Config, name: str) -> Any:
    """A setting's value, whichever section it is in."""
    return getattr(getattr(config, next(section for section, f in fields() if f.name == name)), name)


def _searchable() -> dict[str, Field]:
    return {
        f.name: f
        for section, f in fields()
        if section in ("model", "training")
        and (f.metadata["usual"] or f.metadata["choices"] or isinstance(f.default, bool))
    }


def _is_row(f: Field) -> bool:
    return bool(f.metadata["usual"]) and not str(f.type).startswith("float")


def _row(f: Field, own: int | None) -> tuple[int | None, ...]:
    """The usual whole numbers and the configuration's own, ascending, none before all."""
    numbers = {*f.metadata["usual"], own}
    return tuple(sorted(numbers, key=lambda number: (number is not None, number)))


def _distribution(f: Field, own: Any, row: tuple[int | None, ...] | None) -> BaseDistribution:
    if row:
        return IntDistribution(0, len(row) - 1)
    if not f.metadata["usual"]:
        choices = f.metadata["choices"] or (False, True)
        return CategoricalDistribution(choices if own in choices else (own, *choices))
    low, high = f.metadata["usual"]
    if own:
        # What is usual spans all optimizers. Rates that are fit for another than this one would only diverge.
        low, high = min(own, max(low, own / _NEAR)), max(own, min(high, own * _NEAR))
    return FloatDistribution(low, high, log=True)
