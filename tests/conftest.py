"""Hypothesis profiles: `quick`, the same draws in every run, and `deep`, new ones (HYPOTHESIS_PROFILE=deep)."""

from __future__ import annotations

import os
import tempfile

# one BLAS thread a worker: more only wait for each other on small arrays; NumPy reads this when it is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

_common = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=25, derandomize=True, **_common)
settings.register_profile("deep", max_examples=1000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# what Hypothesis caches goes when the tests end
_home = tempfile.TemporaryDirectory()
set_hypothesis_home_dir(_home.name)
