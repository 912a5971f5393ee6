"""Which of its two ways of running the plugin is in."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable

logger = logging.getLogger(__name__)
# The plugin's default: "1" up to 1.19, as recorded, "0" since 1.21, as here.
_lazy = os.environ.get("PT_HPU_LAZY_MODE", "0") != "0"


def is_lazy() -> bool:
    """Whether operations are collected into graphs until ``mark_step``; decided when the plugin is imported."""
    return _lazy


def lazy_only(function: Callable[..., None]) -> Callable[..., None]:
    """Leaves a function without effect where steps are not lazy, and logs so once: now, not when it is called."""
    if is_lazy():
        return function
    logger.warning("%s does nothing here: it belongs to lazy mode", function.__name__)

    @functools.wraps(function)
    def nothing(*args: object, **kwargs: object) -> None: ...

    return nothing


def refuse_unless_lazy(operator: str) -> None:
    """What the plugin's compiled lazy operators do in eager mode.

    Raises:
        RuntimeError: steps are not lazy.
    """
    if not is_lazy():
        raise RuntimeError(f"{operator} is an operator of lazy mode and was called in eager mode")
