import pytest


@pytest.fixture(scope="session")
def workers() -> int:
    return 2
