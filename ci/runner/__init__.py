"""The headless runner behind ``./ci/run``: plan what to run, execute it with papermill, report what came out.

What a notebook must have to be run (``plan.py`` checks it before anything starts):

- its name starts with two digits and an underscore, in ``notebooks/``: names give the order;
- exactly one code cell tagged ``parameters`` assigns at least ``preset``, ``device``, ``seed``, ``work_dir``, ``raw``,
  ``headless`` and ``overrides``, each to a default that suits a person in JupyterLab. The runner always sets
  ``preset``, ``work_dir`` (absolute) and ``headless=True``; ``raw`` and ``feature_spec`` (absolute) with ``--raw`` and
  ``--feature_spec``; others with ``-p``;
- its metadata may grant it another time budget than its preset's usual one: ``"dlrm": {"seconds": {"smoke": 90}}``.

A notebook runs in a copy, with ``notebooks/`` as its working directory, and writes below ``work_dir`` only.
"""
