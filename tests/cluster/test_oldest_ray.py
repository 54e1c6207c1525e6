"""The oldest Ray that expflow takes (pyproject.toml): the tests against a real head, run once more with it."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = (
    "test_ray_jobs.py::test_a_job_from_its_start_to_its_exit_code",
    "test_ray_jobs.py::test_without_the_token_and_with_a_wrong_one",
    "test_submit_a_sweep.py::test_a_sweep_over_the_users_own_network",
    "test_tokens.py::test_no_route_answers_without_the_token",
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment like this one, but with that Ray."""
    oldest = re.search(r'"ray\[default,tune\]>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert oldest
    folder = tmp_path_factory.mktemp("oldest") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    installer = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", f"--python={python}"]
    done = subprocess.run([*installer, "--no-deps", f"ray=={oldest[1]}.0"], capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"Ray {oldest[1]}.0 cannot be installed: {done.stderr[-300:]}")
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "zz_others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")  # behind its own Ray
    shown = subprocess.run(
        [python, "-c", "import ray; print(ray.__version__)"], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.strip() == f"{oldest[1]}.0", shown.stderr
    return python


def test_jobs_and_tokens_of_a_head(python: Path) -> None:
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/cluster/{test}" for test in TESTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^5 passed", done.stdout, re.MULTILINE), done.stdout
