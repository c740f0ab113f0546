"""For all tests: how Hypothesis searches."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No example database: a failure prints the blob that repeats it. No deadline: CI machines stall.
settings.register_profile("skyfog", deadline=None, database=None, print_blob=True)
settings.load_profile("skyfog")

# Its asserts are told as those of test files are.
pytest.register_assert_rewrite("support.conformance")
