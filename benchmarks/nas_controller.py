"""Does the controller of experiments/nas_controller_digits.yaml learn? Its children's reward, beside random search's.

Each seed is a whole search by the command that users type: 200 children of at most 0.3 M multiply-adds, trained for two
epochs. What the controller has learned is the mean reward of the last quarter of its children, less that of the first
quarter; the interval is Student's over the seeds of the controller. The best child of as many random ones, by the file
beside it, stands in the last column: searches that end close to each other differ in what their average child is worth,
not in the best one. With ``--storage`` results are kept, and a second call continues. An hour on two cores.

    python benchmarks/nas_controller.py [--storage FOLDER] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from expflow.intervals import estimate
from expflow.ledger import load_state

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
METRIC = "val/top1"


def search(name: str, seed: int, storage: Path) -> tuple[list[float], float]:
    """The reward of every child of a search, in the order of proposal, and the seconds from Enter to the prompt."""
    results = storage / f"{name}-{seed}"
    command = [sys.executable, "-m", "expflow", "sweep", str(EXPERIMENTS / f"{name}.yaml"), "--storage", str(results)]
    began = time.perf_counter()
    subprocess.run([*command, "--set", f"sweep.searcher.seed={seed}"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    trials = load_state(results / name).plan_trials()
    rewards = [trial.reports[-1].metrics[METRIC] for trial in trials if trial.status == "done"]
    if len(rewards) < 200:
        raise SystemExit(f"{name}, seed {seed}: {len(rewards)} children are done, 200 were asked for")
    return rewards, seconds


def main() -> None:
    """Search by every seed and print what was learned, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, help="where results are kept; a temporary folder without it")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    gains, lasts, randoms = list[float](), list[float](), list[float]()
    print("seed  seconds  first quarter  last quarter  best   random search: mean  best")
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(options.seeds):
            storage = options.storage or Path(temporary)
            learned, seconds = search("nas_controller_digits", seed, storage)
            drawn, _ = search("nas_random_digits", seed, storage)
            quarter = len(learned) // 4
            first, last = statistics.fmean(learned[:quarter]), statistics.fmean(learned[-quarter:])
            gains.append(100 * (last - first))
            lasts.append(100 * last)
            randoms.append(100 * statistics.fmean(drawn[-quarter:]))
            print(
                f"{seed:4d} {seconds:8.0f} {first:13.1%} {last:13.1%} {max(learned):6.1%} "
                f"{statistics.fmean(drawn):19.1%} {max(drawn):6.1%}",
                flush=True,
            )
    gain = estimate(gains)
    interval = f" [{gain.low:.1f}, {gain.high:.1f}]" if gain.low is not None and gain.high is not None else ""
    print(f"the last quarter's reward is {gain.mean:.1f}{interval} points above the first's (n = {gain.n} seeds)")
    figure = {
        "name": "controller_last_quarter_reward",
        "ours": round(statistics.fmean(lasts), 2),
        "peer": round(statistics.fmean(randoms), 2),
        "peer_name": "random search, the same quarter of its children",
        "unit": "%",
        "better": "higher",
    }
    print(json.dumps({"figures": [figure]}))


if __name__ == "__main__":
    main()
