"""A newcomer's first hour, as the README tells it: their own images, their own network, swept over its width."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from expflow.events import TrialStarted
from expflow.ledger import exists, load_state, read
from tests.sweep.runs import Workplace
from tests.test_house import README, blocks

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

SMALL = {"epochs: 20": "epochs: 2", "[8, 16, 32]": "[4, 16]", "seeds: 5": "seeds: 2"}


def photographs(folder: Path, count: int = 30) -> None:
    """Crops of scikit-learn's two photographs, JPEG and PNG of many sizes, a folder for each."""
    from sklearn.datasets import load_sample_image

    for kind in ("china", "flower"):
        photograph = load_sample_image(f"{kind}.jpg")
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            top, left, size = 8 * number, 16 * number, 60 + number
            crop = Image.fromarray(photograph[top : top + size, left : left + size + number % 7])
            crop.save(folder / kind / f"{number}.{'png' if number % 5 == 0 else 'jpg'}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The README's files over images of one's own, made smaller."""
    folder = tmp_path_factory.mktemp("newcomer")
    text = blocks(README, "yaml")[1]
    for usual, small in SMALL.items():
        assert usual in text
        text = text.replace(usual, small)
    (folder / "flowers.yaml").write_text(text)
    (folder / "my_net.py").write_text(blocks(README, "python")[0])
    photographs(folder / "flowers")
    return Workplace(folder)


@pytest.fixture(scope="module")
def first_sweep(place: Workplace) -> str:
    return place.run("sweep", "flowers.yaml")


def starts(place: Workplace, name: str) -> int:
    return sum(isinstance(record.body, TrialStarted) for record in read(place.folder / "runs" / name))


def test_the_sweep_answers(place: Workplace, first_sweep: str) -> None:
    state = load_state(place.folder / "runs" / "flowers")
    assert [(trial.values, trial.seed, trial.status) for trial in state.plan_trials()] == [
        ({"model.width": width}, seed, "done") for width in (4, 16) for seed in (0, 1)
    ]
    assert "How wide must my network be for flowers?" in first_sweep
    assert "flowers: 4 trials" in first_sweep
    assert "[4/4] done" in first_sweep
    assert "runs/flowers/report.html" in first_sweep
    assert "Traceback" not in first_sweep
    assert "Warning" not in first_sweep


def test_a_result_keeps_arguments_that_are_the_networks_default(place: Workplace, first_sweep: str) -> None:
    """width=16 is what my_net itself has; were it left out, a later edit there would change what was recorded."""
    state = load_state(place.folder / "runs" / "flowers")
    assert [trial.recipe["model"]["width"] for trial in state.plan_trials()] == [4, 4, 16, 16]
    best = (place.folder / "runs" / "flowers" / "best.yaml").read_text()
    assert "path: flowers" in best
    assert "width: " in best


def test_changed_code_stops_the_sweep_until_somebody_decides(place: Workplace, first_sweep: str) -> None:
    with (place.folder / "my_net.py").open("a") as file:
        file.write("# no change of what is computed\n")
    refused = place.run("sweep", "flowers.yaml", code=2)
    assert "error: flowers has results that were made by other code: my_net.py changed since" in refused
    assert "--fresh" in refused
    assert "--keep-results" in refused
    assert "Traceback" not in refused

    kept = place.run("sweep", "flowers.yaml", "--keep-results")
    assert "nothing was left to run" in kept
    assert starts(place, "flowers") == 4
    assert not exists(place.folder / "runs" / "flowers.2")

    with (place.folder / "my_net.py").open("a") as file:
        file.write("# another one\n")
    fresh = place.run("sweep", "flowers.yaml", "--fresh", "--set", "sweep.seeds=1")
    assert "flowers.2: 2 trials" in fresh
    assert starts(place, "flowers.2") == 2
    assert starts(place, "flowers") == 4
