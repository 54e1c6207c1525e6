"""What the state keeps of the files that a trial wrote."""

from expflow.events import ArtifactWritten, Event, TrialProposed, TrialStarted
from expflow.ledger import Header, Ledger, SweepState, fold, load_state, read

HEADER = Header("depth", "text", "depth.yaml", plan="p1")


def artifact(step: int, *, name: str = "confusion", sha256: str = "a" * 64, attempt: int = 1) -> ArtifactWritten:
    path = f"trials/t1/artifacts/{name}-{step}.png"
    return ArtifactWritten("t1", attempt, step, name, path, "image", sha256, 100)


def started(attempt: int = 1, from_step: int = 0) -> TrialStarted:
    return TrialStarted("t1", attempt, "gang-0", from_step)


def folded(*events: Event, lean: bool = False) -> SweepState:
    rows = [HEADER, TrialProposed("t1", "c1", 0, {}, {}), *events]
    return fold(((float(at), event) for at, event in enumerate(rows)), SweepState(lean=lean))


def test_a_file_is_known_by_its_name_kind_and_step_and_the_newest_counts() -> None:
    newest = artifact(20, sha256="b" * 64)
    state = folded(started(), artifact(10), artifact(20), artifact(20, name="worst"), newest)
    files = state.trials["t1"].artifacts
    assert list(files) == [("confusion", "image", 10), ("confusion", "image", 20), ("worst", "image", 20)]
    assert files["confusion", "image", 20] == newest


def test_what_an_attempt_repeats_is_forgotten_as_its_reports_are() -> None:
    state = folded(started(), artifact(10), artifact(20), started(2, from_step=10))
    assert list(state.trials["t1"].artifacts) == [("confusion", "image", 10)]


def test_a_lean_state_keeps_none() -> None:
    assert folded(started(), artifact(10), lean=True).trials["t1"].artifacts == {}


def test_a_file_of_a_trial_that_the_ledger_does_not_have_changes_nothing() -> None:
    state = fold([(0.0, HEADER), (1.0, artifact(10))])
    assert state.trials == {}


def test_the_ledger_stores_it(tmp_path) -> None:
    with Ledger.open(tmp_path, HEADER) as ledger:
        for event in (TrialProposed("t1", "c1", 0, {}, {}), started(), artifact(10)):
            ledger.append(event)
    assert artifact(10) in [record.body for record in read(tmp_path)]
    assert load_state(tmp_path).trials["t1"].artifacts["confusion", "image", 10] == artifact(10)
