"""Widgets of the notebooks. Each also has a static form, for runs without a browser, that leaves no widget behind."""
