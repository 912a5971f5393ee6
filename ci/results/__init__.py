"""Draws the committed figures and writes the README's results, both from records. ``./ci/figures`` is its command."""
