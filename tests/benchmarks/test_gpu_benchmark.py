"""benchmarks/gpu_resnet50.py on a CPU: all that it compares runs. Its numbers mean nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_resnet50.py"


def run(*options):
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = run()
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "This machine has no GPU that torch can use, so there is nothing to measure here.\n"


def test_all_contenders_train():
    done = run("--cpu-smoke")
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in json.loads(done.stdout.splitlines()[-1])["figures"]}
    assert set(figures) == {f"resnet50_eager{kind}" for kind in ("", "_fed", "_overhead", "_of_bound")}
    assert all(figure["ours"] > 0 and figure["peer"] > 0 for figure in figures.values())
    assert "Lightning and all around it" in done.stdout
