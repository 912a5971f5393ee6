"""Draws the committed figures and writes the results' pages, both from records. ``./ci/figures`` is its command."""
