"""benchmarks/loader.py at its smallest: it runs, and its last line is what it says. Its numbers mean nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loader.py"


def figures(cache, *options):
    command = [sys.executable, SCRIPT, "--images", "70", "--rounds", "1", "--cache", cache, *options]
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
