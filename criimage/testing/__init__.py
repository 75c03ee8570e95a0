"""For authors of backends: an in-memory backend to read, images to test with, and the suite that proves a backend."""

import sys

if "pytest" in sys.modules:
    # Before the suite is imported, so that its assertions say what they compared. A server has no pytest.
    sys.modules["pytest"].register_assert_rewrite("criimage.testing.conformance")
