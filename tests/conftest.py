"""Hypothesis profiles: `dev` while writing, `ci` reproducible and broad, `nightly` random and long.

HYPOTHESIS_PROFILE names the profile; without it, `ci` where CI=true and `dev` elsewhere.  Deadlines are off because the
first call of a compiled function includes its compilation.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

slow_start = [HealthCheck.too_slow]  # a first example may compile
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=slow_start)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=slow_start
)
settings.register_profile("nightly", max_examples=5000, deadline=None, suppress_health_check=slow_start)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI", "").lower() == "true" else "dev")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask for more time than others go first, or processes would stand idle beside the last one."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
