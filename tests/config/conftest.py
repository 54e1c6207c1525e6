import sys

import pytest


@pytest.fixture(autouse=True)
def modules_as_before(monkeypatch):
    """The users' modules of one test are not those of the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own"):
            del sys.modules[name]
