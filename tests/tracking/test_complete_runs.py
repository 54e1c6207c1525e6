"""What a sweep's run holds besides numbers: where it comes from, and what its page says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from expflow.tracking.follower import catch_up
from expflow.tracking.ledger_translator import dataset
from expflow.tracking.notes import DIGEST_TAG, TAG
from tests.tracking.stories import header, whole_sweep, write
from tests.tracking.test_notes import REPORT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "depth"


def test_the_sweeps_run_says_where_it_comes_from(folder: Path, uri: str, client: Any, runs: Any) -> None:
    git = {"commit": "c0ffee", "dirty": "yes", "changes": "d1ff"}
    write(folder, whole_sweep(depths=(20,)), command="expflow sweep depth.yaml", git=git)
    for name in ("experiment.yaml", "environment.txt", "changes.diff"):
        (folder / name).write_text(f"first {name}")
    assert catch_up(folder, uri)
    sweep = runs("sweep")["depth"]
    files = [artifact.path for artifact in client.list_artifacts(sweep.info.run_id, "experiment")]
    assert files == ["experiment/changes.diff", "experiment/environment.txt", "experiment/experiment.yaml"]
    assert sweep.data.tags["expflow.command"] == "expflow sweep depth.yaml"
    segment = folder / "ledger" / "000001.jsonl"
    digest = hashlib.sha256(segment.read_bytes()).hexdigest()
    assert sweep.data.tags["expflow.ledger"].endswith(f"sha256 {digest}")
    for run in runs().values():
        tags = run.data.tags
        assert (tags["expflow.git.changes"], tags["expflow.environment"]) == ("d1ff", "expflow 0.1.0")

    (folder / "experiment.yaml").write_text("second")
    (folder / "changes.diff").unlink()
    write(folder, [], plan="p2")
    catch_up(folder, uri)
    kept = folder.parent / "mlartifacts" / "depth" / sweep.info.run_id / "artifacts" / "experiment"
    assert (kept / "experiment.yaml").read_text() == "second"


def test_data_are_told_with_digest_and_size() -> None:
    data = {"source": "digits", "manifest": "ab" * 32, "samples": {"train": 1300, "val": 397}, "bytes": 4096}
    facts = dataset(header(data=data))
    assert facts is not None
    assert facts["digest"] == ("ab" * 32)[:36]
    assert json.loads(facts["profile"]) == {"num_rows": 1697, "num_bytes": 4096, "train": 1300, "val": 397}


def test_pages_say_what_the_report_says_unless_somebody_wrote_there(
    folder: Path, uri: str, client: Any, runs: Any
) -> None:
    write(folder, whole_sweep(depths=(20,)))
    (folder / "report.html").write_text("page")
    (folder / "report.json").write_text(json.dumps(REPORT))
    catch_up(folder, uri)
    sweep, config = runs("sweep")["depth"], runs("config")["depth=20"]
    experiment = client.get_experiment_by_name("depth")
    assert "**The opposite.**" in sweep.data.tags[TAG]
    assert experiment.tags[TAG] == sweep.data.tags[TAG]
    assert config.data.tags[TAG].startswith("Rank 1 of 2: val/top1 98.50 %")
    assert len(sweep.data.tags[DIGEST_TAG]) == 16

    client.set_tag(sweep.info.run_id, TAG, "my own words")
    client.set_experiment_tag(experiment.experiment_id, TAG, "my own page")
    changed = {**REPORT, "answers": []}
    (folder / "report.json").write_text(json.dumps(changed))
    (folder / "report.html").write_text("another page")
    catch_up(folder, uri)
    assert runs("sweep")["depth"].data.tags[TAG] == "my own words"
    assert client.get_experiment_by_name("depth").tags[TAG] == "my own page"
