"""The demo from Enter to the prompt, beside the bare compute of the same 24 trainings by hand in two processes.

`expflow sweep experiments/resnet_depth.yaml` (what `make demo` runs once it has installed) is typed in a new folder: it
starts Ray, trains 24 networks, answers the file's questions and writes the report. The peer is by_hand/demo_trials.py,
typed in the same way: two processes that train the same networks in plain PyTorch, each on one thread and one after the
other, with the same validations, and keep nothing. Both are measured from Enter to the prompt, with their imports, on
digits that were prepared before. Rounds take both in turn; medians are printed.

    python benchmarks/demo.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from starting.terminal import expflow, fresh, typed, workplace

HERE = Path(__file__).parent
DEMO = HERE.parent / "experiments" / "resnet_depth.yaml"


def main() -> None:
    """Measure both in turn and print medians, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    mine, theirs = list[float](), list[float]()
    with workplace() as folder:
        cache = str(folder / "cache")
        ours = {"EXPFLOW_CACHE": cache, "RAY_USAGE_STATS_ENABLED": "0"}
        paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
        typed(expflow("data", "build", DEMO.name), fresh(folder, DEMO.name, DEMO.read_text()), environment=ours)
        for number in range(options.rounds):
            place = fresh(folder, DEMO.name, DEMO.read_text())
            sweep = typed(expflow("sweep", DEMO.name), place, environment=ours)
            by_hand = typed(
                [sys.executable, "-m", "by_hand.demo_trials", cache], place, environment={"PYTHONPATH": paths}
            )
            mine.append(sweep.seconds)
            theirs.append(by_hand.seconds)
            print(
                f"round {number + 1}: demo {sweep.seconds:.1f} s ({sweep.cpu:.0f} CPU s), "
                f"by hand {by_hand.seconds:.1f} s ({by_hand.cpu:.0f} CPU s)",
                flush=True,
            )
    figure = {
        "name": "demo_s",
        "ours": round(statistics.median(mine), 2),
        "peer": round(statistics.median(theirs), 2),
        "peer_name": "the same trainings by hand in two processes",
        "unit": "s",
        "better": "lower",
    }
    print(json.dumps({"figures": [figure]}))


if __name__ == "__main__":
    main()
