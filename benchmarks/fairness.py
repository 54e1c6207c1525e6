"""How long a trial of several ranks waits among trials of one rank: expflow's reservation beside Ray Tune's way.

Four slots; 24 trials of one second and one rank, and a trial of four ranks in the ninth place of the same space. Its
wait is counted from the moment when the trial before it began, since from then on it is the next one, to its own
beginning; it has to wait for all trials that run then.

gang_wait_ratio     that wait, by the mean time of a trial of one rank; wanted <= 2. The time in which four warm ranks
                    meet as one process group is part of it.

The peer is Ray Tune with a placement group for each trial (`tune.PlacementGroupFactory`), of four CPUs for the ninth,
and reused actors.

    python benchmarks/fairness.py [--rounds 3] [--no-peer]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from many_trials import head

SLOTS, SINGLES, PLACE, SECONDS = 4, 24, 8, 1.0
WANTED = 2.0
GANG = 0.5
"""The value that marks the trial of four ranks."""


def values() -> list[float]:
    """The space in its order, the trial of four ranks in its place."""
    singles = [round(0.6 + number / 100, 2) for number in range(SINGLES)]
    return [*singles[:PLACE], GANG, *singles[PLACE:]]


def experiment() -> str:
    """The sweep, as a user writes it."""
    return f"""
task: {{name: scripted, script: [{{sleep: {SECONDS}}}, {{report: {{val/top1: curve}}}}]}}
trainer: {{epochs: 1}}
resources: {{by_config: [{{when: {{task.value: {GANG}}}, ranks: {SLOTS}}}]}}
sweep:
  space: {{task.value: {values()}}}
  metric: val/top1
"""


def ratio(began: dict[float, float], lasted: list[float]) -> float:
    """The figure, by when each trial began."""
    return (began[GANG] - began[values()[PLACE - 1]]) / statistics.mean(lasted)


def ours(folder: Path, environment: dict[str, str]) -> float:
    """Run the sweep with the command that users type, and read its ledger."""
    from expflow.events import TrialEnded, TrialStarted
    from expflow.ledger import load_state, read

    folder.mkdir()
    (folder / "fair.yaml").write_text(experiment())
    command = [sys.executable, "-m", "expflow", "sweep", "fair.yaml", "--storage", "runs"]
    variables = {**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=variables)
    trials = load_state(folder / "runs" / "fair").trials
    records = list(read(folder / "runs" / "fair"))
    started = [record for record in records if isinstance(record.body, TrialStarted)]
    began = {trials[record.body.trial].values["task.value"]: record.at for record in started}
    ended = [record.body for record in records if isinstance(record.body, TrialEnded)]
    return ratio(began, [end.seconds for end in ended if trials[end.trial].values["task.value"] != GANG])


def peer(environment: dict[str, str]) -> float:
    """The same by Ray Tune, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--as-peer"], check=True, stdout=subprocess.PIPE, env=environment)
    output = json.loads(done.stdout.decode().strip().splitlines()[-1])
    began = {float(value): moment for value, moment in output["began"].items()}
    return ratio(began, output["lasted"])


def run_peer() -> None:
    """Body of the peer's process."""
    import ray
    from ray import tune

    def resources(config: dict) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": 1}] * (SLOTS if config["value"] == GANG else 1))

    def train(config: dict) -> None:
        began = time.time()
        time.sleep(SECONDS)
        tune.report({"began": began, "value": config["value"], "lasted": time.time() - began})

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(train, resources),
            param_space={"value": tune.grid_search(values())},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        metrics = [result.metrics for result in results]
    began = {row["value"]: row["began"] for row in metrics}
    print(json.dumps({"began": began, "lasted": [row["lasted"] for row in metrics if row["value"] != GANG]}))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.as_peer:
        run_peer()
        return
    own: list[float] = []
    others: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(asked.rounds):
            with head(SLOTS) as environment:
                own.append(ours(Path(scratch) / str(number), environment))
            if not asked.no_peer:
                with head(SLOTS) as environment:
                    others.append(peer(environment))
    print(f"gang_wait_ratio     {statistics.median(own):.2f}   wanted <= {WANTED:g}   rounds {rounded(own)}")
    row = {"name": "gang_wait_ratio", "ours": round(statistics.median(own), 3), "unit": "x", "better": "lower"}
    if others:
        print(f"  Ray Tune          {statistics.median(others):.2f}   rounds {rounded(others)}")
        row |= {"peer": round(statistics.median(others), 3), "peer_name": "Ray Tune, a placement group for each trial"}
    else:
        row |= {"peer": WANTED, "peer_name": "what is wanted"}
    print(json.dumps({"figures": [row]}))


def rounded(ratios: list[float]) -> str:
    """All rounds in short."""
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)


if __name__ == "__main__":
    main()
