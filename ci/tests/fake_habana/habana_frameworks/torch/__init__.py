"""A stand-in for Intel Gaudi's PyTorch plugin, for tests: its names and signatures, on the CPU.

It does the arithmetic, keeps a list of the calls that matter (``calls``) and refuses what the plugin refuses. It says
nothing about a Gaudi's kernels, memory or speed. ``ci/tests/habana_signatures.json`` records what it is held to, and
only tests that ask for it with ``ci/tests/fake_plugin.py`` can import it.

Like the plugin it reads ``PT_HPU_LAZY_MODE`` once, when it is imported, and imports its main parts along with itself.
"""

from . import core as core
from . import hpu as hpu
from .record import calls as calls
