"""Counters of the plugin."""

from .metrics import metric_global as metric_global
