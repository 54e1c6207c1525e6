from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import PreparedData
from expflow.data.specs import DigitsSpec, FolderSpec
from expflow.data.streaming import decoded_cache
from expflow.data.streaming.thread_pool import shut_down_pools


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    decoded_cache._process_cache.clear()
    yield
    decoded_cache._process_cache.clear()
    shut_down_pools()


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> PreparedData:
    """Shared by all tests: treat as read-only."""
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def images(tmp_path) -> Callable[..., Path]:
    """Make a folder of small random images: ``images({"cat": 3, "train/dog": 2})`` says how many in which folder."""

    def make(counts: dict[str, int], name: str = "images") -> Path:
        random = np.random.default_rng(0)
        for label, count in counts.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        return tmp_path / name

    return make


@pytest.fixture
def many_shards(images, tmp_path, monkeypatch) -> PreparedData:
    """103 images in eleven shards of train, with no room for a permutation over all of them at once."""
    monkeypatch.setattr("expflow.data.prepare.shard_plan.SHARD_SAMPLES", 9)
    spec = FolderSpec(name="folder", path=images({"a": 60, "b": 43}), image_size=4, val_fraction=0.05, test_fraction=0)
    return prepare(spec, cache=tmp_path / "cache")
