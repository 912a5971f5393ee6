"""How a number is encoded: one class per rule, with its parameters, what missing becomes, and its formula in float64.

A rule and its parameters stand in ``feature_spec.yaml`` with each numerical column, so that an encoded data set alone
says how one more row is encoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

# NumPy is imported where it is used: settings name the rules, and whoever only asks for --help should not wait for it.

_LEAST_FLOAT16 = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class NumericRule(ABC):
    """A formula from a number to a float16, and what stands for a missing one.

    Attributes:
        name: As ``rule`` of a column in a feature specification, or ``numeric_rule`` in ``PreprocessConfig``.
        missing_number: What a missing number becomes, a float16.
        digits: Decimal numbers with more digits than that before the point are rejected: what is encoded stays within
            float16's range.
    """

    name: str
    missing_number: float
    digits: ClassVar[int] = 308

    @property
    def span(self) -> tuple[float, float]:
        """Between which two numbers nearly all encoded ones lie, in 23 steps; beyond the first, missing at most."""
        return (0.0, 23.0)

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """float64 [n], NaN where missing → float16 [n]: the formula in float64, rounded once."""
        import numpy as np

        missing = np.isnan(numbers)
        # Adding zero makes 0 of -0, which is the same number and should be the same bytes.
        encoded = self._formula(np.where(missing, 0.0, numbers)).astype(np.float16) + np.float16(0)
        if self.missing_number == _LEAST_FLOAT16:
            encoded[encoded == _LEAST_FLOAT16] = 0
        encoded[missing] = self.missing_number
        return encoded

    @abstractmethod
    def _formula(self, x: np.ndarray) -> np.ndarray:
        """float64 [n], none missing → float64 [n]."""

    @property
    def missing_is_zero(self) -> bool:
        """Whether a missing number and 0 become the same."""
        import numpy as np

        return bool(self.encode(np.zeros(1))[0] == self.missing_number)

    def entry(self) -> dict[str, Any]:
        """The rule as files hold it; ``of`` reads it."""
        entry = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        missing = entry.pop("missing_number")
        return {**entry, "missing_number": missing}

    @staticmethod
    def of(entry: Mapping[str, Any]) -> NumericRule:
        """A rule as ``feature_spec.yaml`` or a checkpoint holds it.

        Raises:
            KeyError, TypeError, ValueError: the entry is not one.
        """
        kind = _KINDS.get(entry["name"], LogRule)
        return kind(**{field.name: _TYPES[field.name](entry[field.name]) for field in fields(kind)})


@dataclass(frozen=True, kw_only=True)
class LogRule(NumericRule):
    """log(max(x + shift, 1)).

    Attributes:
        shift: What is added before the logarithm.
    """

    shift: int

    @property
    def span(self) -> tuple[float, float]:
        """23 steps of a factor e; the first from missing to 0 where missing is below."""
        low = min(0.0, self.missing_number)
        return (low, low + 23.0)

    def _formula(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.log(np.maximum(x + self.shift, 1.0))


@dataclass(frozen=True, kw_only=True)
class SignedLogRule(NumericRule):
    """sign(x) · log(|x| + 1).

    Missing is the least positive float16: to a network it is 0, the middle, and yet it is no number's own, for one that
    would be encoded so (about 6e-8) becomes 0.
    """

    name: str = "signed_log"
    missing_number: float = _LEAST_FLOAT16

    @property
    def span(self) -> tuple[float, float]:
        """Up to some ten millions on either side."""
        return (-17.25, 17.25)

    def _formula(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.sign(x) * np.log(np.abs(x) + 1.0)


@dataclass(frozen=True, kw_only=True)
class IdentityRule(NumericRule):
    """x itself, below 10,000 in magnitude. Missing is as with ``SignedLogRule``."""

    name: str = "identity"
    missing_number: float = _LEAST_FLOAT16
    digits: ClassVar[int] = 4

    def _formula(self, x: np.ndarray) -> np.ndarray:
        return x


@dataclass(frozen=True, kw_only=True)
class QuantileRule(NumericRule):
    """The share of the training rows' numbers below x, in steps of one in K bins: (below + up to + 1) / 2K.

    ``below`` counts the edges less than x, ``up to`` those that are no greater. Between two edges this is the middle of
    the bin, and a value so frequent that it fills several bins has the middle of them all.

    Attributes:
        edges: The K - 1 edges between the bins, ascending; one that is there several times is a frequent value.
    """

    name: str = "quantile"
    missing_number: float = -1.0
    edges: tuple[float, ...]

    @property
    def span(self) -> tuple[float, float]:
        """22 steps for the bins, and one below them for missing."""
        return (-1 / 22, 1.0)

    def _formula(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        edges = np.array(self.edges)
        return (np.searchsorted(edges, x, "left") + np.searchsorted(edges, x, "right") + 1) / (2 * len(edges) + 2)

    @classmethod
    def learned(cls, numbers: np.ndarray, bins: int) -> QuantileRule:
        """Bins of equally many numbers: edge k is number k · n // K of n in ascending order, counted from 0.

        Args:
            numbers: float64 [n], NaN where missing; where all are, every number is encoded as 0.5.
            bins: K.
        """
        import numpy as np

        ascending = np.sort(numbers[~np.isnan(numbers)]) + 0.0
        at = np.arange(1, bins) * len(ascending) // bins if len(ascending) else np.zeros(0, np.int64)
        return cls(edges=tuple(ascending[at].tolist()))


_KINDS: dict[str, type[NumericRule]] = {
    "signed_log": SignedLogRule,
    "identity": IdentityRule,
    "quantile": QuantileRule,
}
_TYPES: dict[str, Callable[[Any], Any]] = {
    "name": str,
    "missing_number": float,
    "shift": int,
    "edges": lambda edges: tuple(map(float, edges)),
}

# With the first, missing counts as zero, whose logarithm is log 2. The second is that of NVIDIA's released script.
NUMERIC_RULES = {
    rule.name: rule
    for rule in (
        LogRule(name="log_x_plus_2", shift=2, missing_number=0.693359375),
        LogRule(name="log_x_plus_3", shift=3, missing_number=0.0),
    )
}
"""What ``numeric_rule`` chooses from, for the integer columns that declare no rule."""

LEARNED = "quantile"
"""The rule whose parameters come from the training rows."""

BINS = 100
"""How many it has where a column does not say."""

FIXED_RULES: dict[str, NumericRule] = {
    **NUMERIC_RULES,
    "log": LogRule(name="log", shift=1, missing_number=-1.0),
    "signed_log": SignedLogRule(),
    "identity": IdentityRule(),
}
"""All others that a column may declare."""
