from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweep.runs import Workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    made = Workplace(tmp_path)
    yield made
    made.leave()
