"""The two errors a user meets. Anything else that reaches the user is a bug."""

from __future__ import annotations


class InputError(ValueError):
    """Bad arguments, input or environment. The command line prints it without a traceback and exits 2.

    Args:
        what: One sentence: what is wrong, and where (file, line, column or flag).
        found: The value found there, if there is one.
        remedy: What to do about it.
        fields: The settings at fault, by their names in the configuration; where they contradict each other, all whose
            change would mend it.
    """

    def __init__(
        self, what: str, *, found: object = None, remedy: str | None = None, fields: tuple[str, ...] = ()
    ) -> None:
        lines = [what]
        if found is not None:
            lines.append(f"  found: {found}")
        if remedy is not None:
            lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))
        self.fields = fields


class TrainingDiverged(RuntimeError):
    """The loss stopped being a finite number. The command line exits 3."""
