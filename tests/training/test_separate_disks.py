"""Ranks of one trial on machines that share no disk."""

from __future__ import annotations

from pathlib import Path

from expflow.config.schema import Recipe
from expflow.training.checkpoints.storage import list_checkpoints, verify_checkpoint
from tests.training.forked_ranks import train_on_two_ranks
from tests.training.test_documented_modules import recipe


def recipes(folder: Path) -> dict[str, Recipe]:
    return {"trial": recipe("LitClassifier", learning_rate=0.05)}


def test_rank_zero_has_the_whole_checkpoint_and_the_other_machine_nothing(tmp_path: Path) -> None:
    for name in ("together", "apart"):
        (tmp_path / name).mkdir()
    where = f"{__name__}:recipes"
    together = train_on_two_ranks(where, tmp_path / "together")["trial"]
    apart = train_on_two_ranks(where, tmp_path / "apart", apart=True)["trial"]
    assert apart["weights"] == together["weights"] != ""
    saved = [list_checkpoints(tmp_path / name / "trial" / "checkpoints")[0] for name in ("together", "apart")]
    files = [verify_checkpoint(path).files for path in saved]
    assert files[0].keys() == files[1].keys() >= {"state-0.pt", "state-1.pt"}
    assert files[0]["state-1.pt"] == files[1]["state-1.pt"]
    assert not list((tmp_path / "apart" / "other" / "trial" / "checkpoints").iterdir())
