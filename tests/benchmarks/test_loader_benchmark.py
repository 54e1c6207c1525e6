"""benchmarks/loader.py and segmentation_loader.py at their smallest: they run, and their last lines are what they say.

The numbers mean nothing here.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def figures(cache, *options, script="loader.py"):
    command = [sys.executable, FOLDER / script, "--images", "70", "--rounds", "1", "--cache", cache, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {figure["name"]: figure for figure in json.loads(done.stdout.splitlines()[-1])["figures"]}, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_measures_loader_reader_and_feed(tmp_path):
    rows, output = figures(tmp_path, "--ours-only")
    assert set(rows) == {"read_vs_tarfile"}
    assert rows["read_vs_tarfile"]["ours"] > 0
    assert "in_process, round 1: expflow" in output
    assert "decoding alone" in output
    sizes = [path.stat().st_size for path in tmp_path.glob("*/images/*/*.jpg")]
    assert len(sizes) == 70
    assert max(sizes) <= 110_000
    assert sum(sizes) / 70 > 64_000
    fed, _ = figures(tmp_path, "--feed")
    assert set(fed) == {"feed_share"}
    assert fed["feed_share"]["better"] == "higher"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_measures_loaders_of_images_with_masks(tmp_path):
    rows, output = figures(tmp_path, script="segmentation_loader.py")
    assert {"in_process_masks_vs_torchvision", "two_workers_masks_vs_torchvision"} <= set(rows)
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in rows.values())
    assert "two_workers: expflow" in output
