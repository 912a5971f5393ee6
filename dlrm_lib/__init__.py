"""Learn, run and tune DLRM: from raw click logs to a trained deep learning recommendation model.

Importing this package is quick and needs neither Spark nor Jupyter: every part is imported where it is used,
for example ``from dlrm_lib.config import Config``.
"""

__version__ = "0.1.0"
