"""MLflow follows a ledger: a real SQLite store, and everything that may go wrong on the way."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from expflow.errors import ServerUnreachable
from expflow.events import ArtifactWritten, Event, TrialEnded, TrialReported, TrialStarted
from expflow.ledger import Ledger
from expflow.tracking import follower as follower_module
from expflow.tracking.follower import Follower, catch_up
from tests.tracking.store_contents import everything, history
from tests.tracking.stories import failed_trial, header, proposed, reports, whole_sweep, whole_trial, write

TRIALS = {f"depth={depth} s{seed}" for depth in (20, 56) for seed in range(3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "depth"


def test_a_whole_sweep(folder: Path, uri: str, client, runs) -> None:
    write(folder, whole_sweep())
    assert catch_up(folder, uri)
    sweep = runs("sweep")["depth"]
    assert runs("config").keys() == {"depth=20", "depth=56"}
    assert runs("trial").keys() == TRIALS
    assert {run.info.status for run in runs().values()} == {"FINISHED"}
    assert {run.data.tags.get("mlflow.parentRunId") for name, run in runs().items() if name != "depth"} == {
        sweep.info.run_id
    }
    trial = runs("trial")["depth=56 s2"]
    assert history(client, trial, "val/top1") == [(10, 0.68), (20, 0.69), (30, 0.7)]
    assert trial.data.params["model.depth"] == "56"
    assert trial.data.tags["mlflow.source.git.commit"] == "c0ffee"
    (data,) = trial.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "ab" * 18)
    config = runs("config")["depth=56"]
    assert config.data.metrics["final/val_top1"] == pytest.approx(0.6)
    assert config.data.metrics["n_seeds"] == 3
    assert config.data.metrics["final/val_top1_low"] < 0.6 < config.data.metrics["final/val_top1_high"]


@pytest.fixture
def other(tmp_path: Path, empty_store: Path) -> str:
    """A second, empty store."""
    shutil.copy(empty_store, tmp_path / "other.db")
    return f"sqlite:///{tmp_path / 'other.db'}"


@pytest.mark.parametrize("records", [1, 7])
def test_small_bites_tell_the_same(folder, uri, other, records: int, monkeypatch) -> None:
    write(folder, [*whole_sweep(depths=(20,)), *failed_trial(56, 0)])
    assert catch_up(folder, uri)
    monkeypatch.setattr(follower_module, "RECORDS_PER_FLUSH", records)
    assert catch_up(folder, other)
    assert everything(other) == everything(uri)


def test_a_growing_ledger_is_followed(folder, uri, client, runs) -> None:
    follower = Follower(folder, uri)
    assert not follower.step(), "nothing is there yet"
    with Ledger.open(folder, header()) as ledger:
        for event in whole_trial(20, 0)[:3]:
            ledger.append(event)
        assert follower.step()
        assert runs("trial")["depth=20 s0"].info.status == "RUNNING"
        assert runs("trial")["depth=20 s0"].data.tags["expflow.state"] == "running"
        assert not follower.step()
        for event in whole_trial(20, 0)[3:]:
            ledger.append(event)
    while follower.step():
        pass
    assert runs("trial")["depth=20 s0"].data.tags["expflow.state"] == "done"
    assert follower.driver_stopped


def test_telling_again_changes_nothing(folder, uri) -> None:
    write(folder, whole_sweep())
    catch_up(folder, uri)
    before = everything(uri)
    assert catch_up(folder, uri)
    assert everything(uri) == before
    cursor = folder / "tracking" / "cursor.json"
    for damage in (cursor.unlink, lambda: cursor.write_text("{"), lambda: cursor.write_text("[]")):
        damage()
        assert catch_up(folder, uri)
        assert everything(uri) == before


def test_a_follower_that_dies_anywhere_tells_all_once(folder, uri, other, monkeypatch) -> None:
    write(folder, whole_sweep(depths=(20,)))
    assert catch_up(folder, uri)
    calls = 0
    fatal = 0  # the number of the call whose answer is lost

    def mortal(method):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            result = method(*arguments, **named)
            if calls == fatal:
                raise ConnectionError("the server took it, and its answer was lost")
            return result

        return call

    for name in ("create_run", "log_batch", "log_inputs", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
    monkeypatch.setattr(follower_module, "RECORDS_PER_FLUSH", 5)
    deaths = 0
    for fatal in range(1, 40, 2):  # noqa: B007 - read by the calls
        calls = 0
        with contextlib.suppress(ServerUnreachable):
            catch_up(folder, other)
            deaths -= 1
        deaths += 1
    assert deaths >= 5
    fatal = -1
    assert catch_up(folder, other)
    assert everything(other) == everything(uri)


def test_what_was_written_before_is_read_again_in_little_memory(folder, uri, monkeypatch) -> None:
    write(folder, whole_sweep())
    assert catch_up(folder, uri)
    followed, pending = [], []

    class Watched(follower_module.LedgerTranslator):
        def apply(self, record):
            pending.append(bool(self.pending))
            super().apply(record)
            followed.append(self)

    monkeypatch.setattr(follower_module, "LedgerTranslator", Watched)
    assert catch_up(folder, uri)
    assert not any(pending)
    trials = followed[-1].state.trials.values()
    assert {type(trial.reports).__name__ for trial in trials} == {"ReportColumns"}, "a sixth of the objects' memory"


def test_an_unreachable_store_is_named_with_its_reason(folder, uri, monkeypatch) -> None:
    write(folder, whole_trial(20, 0))

    def lost(*arguments, **named):
        raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lost)
        with pytest.raises(
            ServerUnreachable, match=r"results of depth .*safe in the ledger.*ConnectionError: no route"
        ):
            catch_up(folder, uri)
    assert catch_up(folder, uri)


def test_numbers_that_are_none_do_not_break_it(folder, uri, client, runs) -> None:
    odd = TrialReported(
        "t20s0", 1, 10, {"val/loss": math.nan, "up": math.inf, "down": -math.inf, "bad [name]": 1.0}, 0.5
    )
    write(folder, [*whole_trial(20, 0)[:2], odd, *whole_trial(20, 0)[2:]])
    assert catch_up(folder, uri)
    metrics = runs("trial")["depth=20 s0"].data.metrics
    assert math.isnan(metrics["val/loss"])
    assert (metrics["up"] > 1e308, metrics["down"] < -1e308, metrics["bad _name_"]) == (True, True, 1.0)
    assert metrics["val/top1"] == 0.5


def test_many_metrics_and_parameters_go_in_pieces(folder, uri, client, runs) -> None:
    many = [TrialReported("t20s0", 1, step, {f"m{number}": float(step) for number in range(30)}) for step in range(100)]
    recipe = {"model": {"name": "mlp", **{f"p{number}": number for number in range(250)}}}
    write(folder, [*whole_trial(20, 0)[:2], *many, TrialEnded("t20s0", 1, "done", 99, 1.0)], recipe=recipe, seeds=(0,))
    assert catch_up(folder, uri)
    run = runs("trial")["depth=20 s0"]
    assert len(run.data.params) == 252  # and the searched depth
    assert history(client, run, "m29") == [(step, float(step)) for step in range(100)]


def test_what_the_store_refuses_does_not_stop_the_rest(folder, uri, client, runs, monkeypatch) -> None:
    monkeypatch.setattr("expflow.tracking.writer.safe_key", lambda key: key)  # lets an impossible name through
    odd = TrialReported("t20s0", 1, 10, {"../bad?": 1.0})
    write(folder, [*whole_trial(20, 0)[:2], odd, TrialEnded("t20s0", 1, "done", 10, 1.0), *whole_trial(20, 1)])
    assert catch_up(folder, uri)
    assert runs("trial")["depth=20 s1"].data.metrics["val/top1"] == 0.6


def test_failures_are_shown(folder, uri, runs) -> None:
    write(folder, [*whole_trial(20, 0), *failed_trial(20, 1), *whole_trial(20, 2)])
    catch_up(folder, uri)
    failed = runs("trial")["depth=20 s1"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["expflow.failure"] == "diverged: the loss became nan at step 12"
    assert runs("config")["depth=20"].data.tags["expflow.failed_seeds"] == "1"


def test_an_interrupted_sweep_goes_on_in_the_same_runs(folder, uri, client, runs) -> None:
    write(folder, [proposed(20, 0), TrialStarted("t20s0", 1, "g"), *reports(20, 0)[:1]], close="interrupted")
    catch_up(folder, uri)
    assert runs("sweep")["depth"].info.status == "KILLED"
    assert runs("trial")["depth=20 s0"].info.status == "KILLED"
    assert runs("trial")["depth=20 s0"].data.tags["expflow.state"] == "waiting"
    rest = [
        TrialStarted("t20s0", 2, "g", 10),
        *reports(20, 0, attempt=2, first=2),
        TrialEnded("t20s0", 2, "done", 30, 2),
    ]
    write(folder, rest)
    catch_up(folder, uri)
    assert runs("sweep")["depth"].info.status == "FINISHED"
    assert [step for step, _ in history(client, runs("trial")["depth=20 s0"], "val/top1")] == [10, 20, 30]


def test_a_killed_driver_is_noticed(folder, uri, runs) -> None:
    write(folder, [proposed(20, 0), TrialStarted("t20s0", 1, "g")], close=None)
    catch_up(folder, uri)
    assert runs("sweep")["depth"].info.status == "KILLED"
    assert runs("sweep")["depth"].data.tags["expflow.state"] == "killed"


def test_more_seeds_make_one_new_config_run(folder, uri, runs) -> None:
    write(folder, whole_sweep(depths=(20,)))
    catch_up(folder, uri)
    write(folder, [*(proposed(20, seed) for seed in range(3)), *whole_trial(20, 3)], seeds=(0, 1, 2, 3), plan="p2")
    catch_up(folder, uri)
    (config,) = runs("config").values()
    assert config.data.metrics["n_seeds"] == 4
    (folder / "tracking" / "cursor.json").unlink()
    catch_up(folder, uri)
    assert len(runs("config")) == 1, "the old one stays away"


def test_the_report_is_attached_and_replaced(folder, uri, client, runs, tmp_path: Path) -> None:
    write(folder, whole_sweep(depths=(20,)))
    (folder / "report.html").write_text("first")
    (folder / "figures").mkdir()
    (folder / "figures" / "depth.png").write_bytes(b"png")
    catch_up(folder, uri)
    sweep = runs("sweep")["depth"].info.run_id
    assert [artifact.path for artifact in client.list_artifacts(sweep)] == ["figures", "report.html"]
    assert [artifact.path for artifact in client.list_artifacts(sweep, "figures")] == ["figures/depth.png"]
    assert not [tag for tag in runs("sweep")["depth"].data.tags if tag.startswith("expflow.answer")]
    (folder / "report.html").write_text("second")
    answer = {"verdict": "as_expected", "resolution": "resolved", "holds_for": "these_images", "claim": "a > b", "n": 3}
    (folder / "report.json").write_text(json.dumps({"answers": [answer], "best": {"score": None}}))
    catch_up(folder, uri)
    tags = runs("sweep")["depth"].data.tags
    assert {tag: value for tag, value in tags.items() if tag.startswith(("expflow.answer", "expflow.best"))} == {
        f"expflow.answer.1.{field}": value for field, value in answer.items() if field != "n"
    }
    kept = tmp_path / "mlartifacts" / "depth" / sweep / "artifacts" / "report.html"
    assert kept.read_text() == "second"


def test_what_the_user_deleted_stays_deleted(folder, uri, client, runs) -> None:
    write(folder, [*whole_trial(20, 0), *whole_trial(20, 1)])
    catch_up(folder, uri)
    client.delete_run(runs("trial")["depth=20 s0"].info.run_id)
    write(folder, [TrialStarted("t20s0", 2, "g"), TrialEnded("t20s0", 2, "done", 30, 1.0), *whole_trial(20, 2)])
    catch_up(folder, uri)
    assert runs("trial").keys() == {"depth=20 s1", "depth=20 s2"}


def test_a_deleted_store_is_filled_again(folder, uri, other) -> None:
    write(folder, whole_sweep(depths=(20,)))
    catch_up(folder, uri)
    before = everything(uri)
    places = folder / "tracking" / "cursor.json"
    place = json.loads(places.read_text())
    catch_up(folder, other)
    (there,) = json.loads(places.read_text()).keys() - place.keys()
    new = other.replace("other", "new")  # never told anything, and yet there is a place for it
    key = hashlib.sha256(new.encode()).hexdigest()[:16]
    places.write_text(json.dumps({key: json.loads(places.read_text())[there]}))
    assert catch_up(folder, new)
    assert everything(new) == before


def test_a_new_ledger_of_the_same_name_gets_new_runs(folder, uri, client) -> None:
    write(folder, whole_trial(20, 0), seeds=(0,))
    catch_up(folder, uri)
    shutil.rmtree(folder / "ledger")
    write(folder, whole_trial(20, 0), seeds=(0,))
    catch_up(folder, uri)
    runs = client.search_runs([client.get_experiment_by_name("depth").experiment_id], "tags.`expflow.role` = 'trial'")
    assert len(runs) == 2
    assert all(run.data.metrics["val/top1"] == 0.5 for run in runs)


def test_two_stores_have_a_place_each(folder, uri, other) -> None:
    write(folder, whole_trial(20, 0))
    catch_up(folder, uri)
    catch_up(folder, other)
    assert len(json.loads((folder / "tracking" / "cursor.json").read_text())) == 2
    assert everything(uri) == everything(other)


def test_one_follower_at_a_time(folder, uri) -> None:
    write(folder, whole_trial(20, 0))
    (folder / "tracking").mkdir()
    with (folder / "tracking" / "follower.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not catch_up(folder, uri)
    assert catch_up(folder, uri)


def test_pictures_hang_on_their_trials_run(folder, uri, client, runs) -> None:
    from expflow.config.identity import folder_name

    write(folder, whole_trial(20, 0), seeds=(0,))
    assert catch_up(folder, uri)
    place = folder / "trials" / folder_name({"model.depth": 20}, 0, "t20s0") / "pictures"
    place.mkdir(parents=True)
    (place / "confusion.png").write_bytes(b"first")

    def there() -> dict[str, bytes]:
        root = Path(runs("trial")["depth=20 s0"].info.artifact_uri.removeprefix("file://"))
        return {picture.relative_to(root).as_posix(): picture.read_bytes() for picture in root.rglob("*.png")}

    assert catch_up(folder, uri)
    assert there() == {"pictures/confusion.png": b"first"}
    (place / "confusion.png").write_bytes(b"second")
    (place / "worst.png").write_bytes(b"more")
    assert catch_up(folder, uri)
    assert there() == {"pictures/confusion.png": b"second", "pictures/worst.png": b"more"}
    assert client.list_artifacts(runs("sweep")["depth"].info.run_id) == []


def picture(folder: Path, content: bytes, *, step: int = 10, attempt: int = 1) -> ArtifactWritten:
    """A picture that the trial t20s0 wrote."""
    path = f"trials/t20s0/artifacts/confusion-{step}.png"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return ArtifactWritten("t20s0", attempt, step, "confusion", path, "image", digest, len(content))


def with_picture(folder: Path, events: list[Event], *pictures: ArtifactWritten) -> None:
    """Write the events of a trial, its pictures before its end, as one driver."""
    write(folder, [*events[:-1], *pictures, events[-1]], seeds=(0,))


@pytest.fixture
def attached(runs):
    """The files that MLflow has of the trial t20s0, by path."""

    def read() -> dict[str, bytes]:
        root = Path(runs("trial")["depth=20 s0"].info.artifact_uri.removeprefix("file://"))
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}

    return read


@pytest.fixture
def uploads(monkeypatch) -> list[str]:
    """The names of all files that are uploaded from now on."""
    names: list[str] = []
    log_artifact = MlflowClient.log_artifact

    def counted(self, run_id, local_path, artifact_path=None):
        names.append(Path(local_path).name)
        log_artifact(self, run_id, local_path, artifact_path)

    monkeypatch.setattr(MlflowClient, "log_artifact", counted)
    return names


def test_what_a_trial_wrote_hangs_on_its_run_once(folder, uri, attached, uploads) -> None:
    first, second = picture(folder, b"ten"), picture(folder, b"twenty", step=20)
    again = picture(folder, b"ten", attempt=2)  # a second attempt that repeats the step
    with_picture(folder, whole_trial(20, 0), first, second, again)
    assert catch_up(folder, uri)
    names = {"artifacts/confusion/confusion-10.png": b"ten", "artifacts/confusion/confusion-20.png": b"twenty"}
    assert attached() == names
    assert catch_up(folder, uri)
    assert uploads == ["confusion-10.png", "confusion-20.png"]
    (folder / "tracking" / "cursor.json").unlink()  # as if nothing had been written: all is written again
    assert catch_up(folder, uri)
    assert attached() == names


def test_a_follower_that_dies_while_it_uploads_leaves_each_file_once(folder, uri, attached, monkeypatch) -> None:
    with_picture(folder, whole_trial(20, 0), picture(folder, b"ten"), picture(folder, b"twenty", step=20))
    log_artifact, deaths = MlflowClient.log_artifact, iter([True])

    def mortal(self, run_id, local_path, artifact_path=None):
        log_artifact(self, run_id, local_path, artifact_path)
        if next(deaths, False):
            raise ConnectionError("the server took it, and its answer was lost")

    monkeypatch.setattr(MlflowClient, "log_artifact", mortal)
    with pytest.raises(ServerUnreachable):
        catch_up(folder, uri)
    assert catch_up(folder, uri)
    assert sorted(attached()) == ["artifacts/confusion/confusion-10.png", "artifacts/confusion/confusion-20.png"]


def test_a_file_that_is_gone_is_passed_over(folder, uri, attached, caplog) -> None:
    written = picture(folder, b"ten")
    with_picture(folder, whole_trial(20, 0), written)
    (folder / written.path).unlink()
    assert catch_up(folder, uri)
    assert attached() == {}
    assert "confusion-10.png is gone" in caplog.text
