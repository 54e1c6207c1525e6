"""torchmetrics comes without scipy.signal and matplotlib, and whoever uses them finds them as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEGIN = "from expflow.torchmetrics_imports import hold_back_imports\nhold_back_imports()\nimport sys\n"
THERE = "print(*(name for name in ('scipy.signal', 'matplotlib', 'matplotlib.pyplot') if name in sys.modules))\n"
PLOTS = """
import torch, torchmetrics
metric = torchmetrics.MeanMetric()
metric.update(torch.tensor([1.0, 3.0]))
figure, axes = metric.plot()
metrics = torchmetrics.MetricCollection([torchmetrics.MeanMetric(), torchmetrics.MaxMetric()])
metrics.update(torch.tensor([1.0, 3.0]))
import matplotlib.figure, matplotlib.pyplot as plt
ours = plt.subplots()[1]
together = metrics.plot(ax=ours, together=True)
assert isinstance(figure, matplotlib.figure.Figure) and isinstance(axes, matplotlib.axes.Axes)
assert together[1] is ours
assert plt is sys.modules["matplotlib.pyplot"] and plt.Figure is matplotlib.figure.Figure
from matplotlib.axes import Axes
import scipy.signal
assert scipy.signal.windows.hamming(3).shape == (3,)
print("plotted")
"""


def _printed(program: str, *folders: Path) -> str:
    code = f"import sys\nsys.path[:0] = {[str(folder) for folder in folders]}\n{program}"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_is_imported_with_torchmetrics_and_lightning_and_both_are_the_real_ones_later() -> None:
    assert _printed(f"{BEGIN}import torchmetrics, pytorch_lightning\n{THERE}{PLOTS}") == "\nplotted\n"


def test_what_was_imported_before_stays() -> None:
    before = "import matplotlib.pyplot, scipy.signal\n"
    assert _printed(before + BEGIN + PLOTS + "assert callable(scipy.signal.hamming)\n") == "plotted\n"


def test_packages_that_torchmetrics_serves_get_what_they_need(tmp_path: Path) -> None:
    for package in ("gammatone", "scienceplots"):
        (tmp_path / f"{package}.py").write_text("")
    assert _printed(f"{BEGIN}import torchmetrics\n{THERE}", tmp_path) == "scipy.signal matplotlib matplotlib.pyplot\n"


def test_whoever_asks_meanwhile_gets_the_real_module(tmp_path: Path) -> None:
    """As a package would that torchmetrics imports, and that uses matplotlib."""
    package = tmp_path / "torchmetrics"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import matplotlib.pyplot as plt\nfrom matplotlib.figure import Figure\nfigure = plt.figure()\n"
        "assert isinstance(figure, Figure)\nimport scipy.signal\nassert scipy.signal.convolve([1], [2]) == [2]\n"
        "import matplotlib.colors\nassert issubclass(matplotlib.colors.Normalize, object)\nprint('used')\n"
    )
    assert (
        _printed(
            f"{BEGIN}import torchmetrics\nassert torchmetrics.__spec__.loader is torchmetrics.__loader__", tmp_path
        )
        == "used\n"
    )


def test_it_is_done_once_and_before_or_not_at_all() -> None:
    count = "print(sum(type(finder).__module__ == 'expflow.torchmetrics_imports' for finder in sys.meta_path))\n"
    assert _printed(f"{BEGIN}hold_back_imports()\n{count}") == "1\n"
    assert _printed(f"import torchmetrics\n{BEGIN}{count}") == "0\n"
