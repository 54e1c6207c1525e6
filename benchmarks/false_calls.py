"""How often verdicts are wrong: simulated users who follow expflow's advice, beside the rule of before.

The rules are expflow's own (docs/inference.md); where they are written for many simulated users at once, they are held
against the functions of expflow.report in the same run. The peer is the rule that expflow had at commit 1fd1caa: a
paired t test at 5 % over all seeds so far, asked again after as many seeds as it says are needed; the best config's own
score on val; intervals over seeds alone. Everything is simulated with numpy; no network is trained.

- users who extend: n = 3, then as many seeds as the answer asks for (the middle of its range, and either end), until
  the difference is resolved or 30 seeds are reached; there is no difference;
- an adversary who asks after every further seed up to 30;
- power at the first look;
- configs that are equally good on other images, and differ on these: an interaction of config and image;
- the score of the best of 50 equal configs: its bias, and the coverage of its interval;
- a campaign of 100 equal tries that keeps what is called better;
- users of a small source whose seeds draw train and val anew (``data.split_seed: trial``), with and without the
  correction for what these share;
- coverage of the intervals of shares;
- truly skewed differences (lognormal), which no t test resolves: printed, without a bar.

    python benchmarks/false_calls.py [--users 4000]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr, stdtrit
from simulated_users.asking import FIRST, MOST, check, false_calls_adversary, false_calls_extended, p_values
from simulated_users.own_splits import SOURCES, split_differences

from expflow.intervals import share_estimate
from expflow.report.best_of_k import selection_estimate
from expflow.report.campaign import try_level
from expflow.report.image_differences import image_test
from expflow.report.image_intervals import interval_over_both
from expflow.report.sequential import level_share
from expflow.report.statistics import ALPHA, paired_test, power

IMAGES = 397
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
"""(users, seeds) differences with mean 0 and standard deviation 1."""


def normal(rng: np.random.Generator, users: int, seeds: int) -> Floats:
    """Differences of a normal distribution."""
    return rng.standard_normal((users, seeds))


def laplace(rng: np.random.Generator, users: int, seeds: int) -> Floats:
    """Differences with heavy tails."""
    return rng.laplace(0.0, math.sqrt(0.5), (users, seeds))


def accuracy_like(rng: np.random.Generator, users: int, seeds: int) -> Floats:
    """Differences of two accuracies on 397 images: whole images, and some of them equal."""
    sides = np.round(IMAGES * 0.985 + 1.5 * rng.standard_normal((2, users, seeds)))
    scores: Floats = np.minimum(sides, IMAGES) / IMAGES
    return scores[0] - scores[1]


def lognormal(rng: np.random.Generator, users: int, seeds: int) -> Floats:
    """Truly skewed differences."""
    values: Floats = rng.lognormal(0.0, 1.0, (users, seeds)) - math.exp(0.5)
    return values


KINDS: dict[str, Draw] = {"normal": normal, "laplace": laplace, "accuracy-like": accuracy_like}


def interaction(rng: np.random.Generator, users: int, seeds: int, noise: float, together: float) -> Floats:
    """(users, seeds, images) differences of two configs that are equally good on other images.

    Args:
        rng: The generator.
        users: Number of users.
        seeds: Number of seeds.
        noise: Standard deviation of a seed's effect on all images.
        together: Standard deviation over images of what a config does to an image with every seed.
    """
    images = rng.standard_normal((users, 1, IMAGES)) * together
    by_seed = rng.standard_normal((users, seeds, 1)) * noise
    rest = rng.standard_normal((users, seeds, IMAGES)) * 0.1
    values: Floats = images + by_seed + rest
    return values


def false_calls_other_images(rng: np.random.Generator, users: int, seeds: int) -> tuple[float, float]:
    """Share of users who are told of a difference for other images, and with the test over seeds alone (before)."""
    ours = theirs = 0
    for start in range(0, users, 100):
        size = min(100, users - start)
        block = interaction(rng, size, seeds, noise=0.002, together=0.1)
        for differences in block:
            p = paired_test(differences.mean(axis=1), np.zeros(seeds)).p
            over = image_test(differences).p
            theirs += p is not None and p < ALPHA
            ours += p is not None and over is not None and max(p, over) <= ALPHA * level_share(1)
    return ours / users, theirs / users


@dataclass(frozen=True)
class Selection:
    """What the score of the best of k equal configs is off by, in points, and how often its interval is right."""

    bias: float
    coverage: float
    old_bias: float
    old_coverage: float


def best_of_50(rng: np.random.Generator, users: int, seeds: int, noise: float, together: float) -> Selection:
    """Choose among 50 equal configs on a val split, again and again.

    Args:
        rng: The generator.
        users: How often.
        seeds: Seeds of each config.
        noise: Standard deviation of a seed's effect on the logit of every image.
        together: Standard deviation of what a config does to single images, the same with every seed.
    """
    truth = _true_share(rng, noise, together)
    errors, held, old_errors, old_held = [], 0, [], 0
    for _ in range(users):
        difficulty = rng.standard_normal((1, 1, IMAGES)) * _DIFFICULTY
        own = rng.standard_normal((50, 1, IMAGES)) * together
        luck = rng.standard_normal((50, seeds, 1)) * noise
        hits = (rng.random((50, seeds, IMAGES)) < expit(_CENTRE + difficulty + own + luck)).astype(np.float64)
        estimate = selection_estimate(hits, share=True, resamples=50)
        errors.append(estimate.score - truth)
        held += estimate.low <= truth <= estimate.high
        winner = hits.mean(axis=2)[hits.mean(axis=(1, 2)).argmax()]
        half = stdtrit(seeds - 1, 0.975) * winner.std(ddof=1) / math.sqrt(seeds)
        old_errors.append(winner.mean() - truth)
        old_held += abs(winner.mean() - truth) <= half
    return Selection(100 * float(np.mean(errors)), held / users, 100 * float(np.mean(old_errors)), old_held / users)


_CENTRE, _DIFFICULTY = 4.0, 2.0


def _true_share(rng: np.random.Generator, noise: float, together: float) -> float:
    spread = math.sqrt(_DIFFICULTY**2 + noise**2 + together**2)
    return float(expit(_CENTRE + spread * rng.standard_normal(4_000_000)).mean())


def false_keep(users: int, rng: np.random.Generator, *, old: bool) -> float:
    """Share of campaigns of 100 equal tries at n = 3 that keep a false one."""
    kept, reference = np.zeros(users, bool), rng.standard_normal((users, FIRST))
    for number in range(1, 101):
        differences = rng.standard_normal((users, FIRST)) - reference
        t = differences.mean(axis=1) / differences.std(axis=1, ddof=1) * math.sqrt(FIRST)
        p = stdtr(FIRST - 1, -t)  # one-sided: better
        kept |= p <= (0.025 if old else try_level(number))
    return float(kept.mean())


def share_coverage(
    rng: np.random.Generator, users: int, seeds: int, share: float, *, both: bool
) -> tuple[float, float]:
    """How often the intervals of a share hold the truth, and those of before (t over seeds).

    Args:
        rng: The generator.
        users: How many experiments.
        seeds: Seeds of each.
        share: The true share.
        both: Whether the truth is for other seeds and images, else for other seeds on these images.
    """
    centre = _centre_of(share)
    held = old_held = 0
    for _ in range(users):
        difficulty = rng.standard_normal((1, IMAGES)) * _DIFFICULTY
        luck = rng.standard_normal((seeds, 1)) * 0.2
        hits = rng.random((seeds, IMAGES)) < expit(centre + difficulty + luck)
        means = hits.mean(axis=1)
        truth = share if both else _mean_over_luck(centre + difficulty[0])
        if both:
            over = interval_over_both(hits.astype(np.float64), share=True)
            low, high = over.low, over.high
        else:
            estimate = share_estimate(means.tolist(), IMAGES)
            low, high = estimate.low, estimate.high
        held += low is not None and high is not None and low <= truth <= high
        half = stdtrit(seeds - 1, 0.975) * means.std(ddof=1) / math.sqrt(seeds)
        old_held += abs(means.mean() - truth) <= half
    return held / users, old_held / users


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def _mean_over_luck(logits: Floats) -> float:
    return float((expit(logits[:, None] + 0.2 * _NODES) @ _WEIGHTS).mean() / _WEIGHTS.sum())


def _centre_of(share: float) -> float:
    """The logit around which images of the usual difficulties are got right in ``share`` of cases."""
    spread, low, high = math.hypot(_DIFFICULTY, 0.2), -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float((expit(middle + spread * _NODES) @ _WEIGHTS) / _WEIGHTS.sum())
        low, high = (middle, high) if mean < share else (low, middle)
    return (low + high) / 2


def figure(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, object]:
    """One figure as the last line of output holds it."""
    return {
        "name": name, "ours": round(ours, 4), "peer": round(peer, 4), "peer_name": peer_name, "unit": unit,
        "better": "lower",
    }  # fmt: skip


BEFORE = "the rule at commit 1fd1caa"


def extensions(users: int) -> list[dict[str, object]]:
    """Users who extend as advised, and the adversary."""
    worst, worst_old = 0.0, 0.0
    for kind, draw in KINDS.items():
        differences = draw(np.random.default_rng(1), users, MOST)
        check(differences[:50, :FIRST])
        shares = {which: false_calls_extended(differences, which) for which in ("middle", "low", "high", "old")}
        words = ", ".join(f"{which} {share:.1%}" for which, share in shares.items())
        print(f"extended as advised, {kind}: false calls {words}")
        worst, worst_old = max(worst, shares["middle"], shares["low"], shares["high"]), max(worst_old, shares["old"])
    adversary, old = 0.0, 0.0
    for kind, draw in KINDS.items():
        differences = draw(np.random.default_rng(2), 10 * users, MOST)
        ours, theirs = (false_calls_adversary(differences, old=before) for before in (False, True))
        print(f"asked after every seed, {kind}: false calls {ours:.1%}, before {theirs:.1%}")
        adversary, old = max(adversary, ours), max(old, theirs)
    skewed = lognormal(np.random.default_rng(3), users, MOST)
    print(
        "lognormal differences (no bar: no t test holds them): "
        f"first look {float((p_values(skewed[:, :FIRST])[0] <= ALPHA * level_share(1)).mean()):.1%}, "
        f"extended {false_calls_extended(skewed, 'middle'):.1%}, before {false_calls_extended(skewed, 'old'):.1%}"
    )
    return [
        figure("false_calls_extended", 100 * worst, 100 * worst_old, BEFORE, "%"),
        figure("false_calls_adversary", 100 * adversary, 100 * old, BEFORE, "%"),
    ]


def first_look() -> None:
    """Power at the first look, beside that of the test at 5 %."""
    for effect in (2.0, 4.0, 8.0):
        ours, theirs = power(effect, FIRST, ALPHA * level_share(1)), power(effect, FIRST)
        print(f"power at n = 3 for a difference of {effect:g} SD: {ours:.0%}, before {theirs:.0%}")


def other_images(users: int) -> list[dict[str, object]]:
    """Calls for other images of configs that differ on these alone."""
    worst, worst_old = 0.0, 0.0
    for seeds in (3, 5, 10, 30):
        ours, theirs = false_calls_other_images(np.random.default_rng(seeds), users, seeds)
        print(f"config x image interaction, n = {seeds}: called for other images {ours:.1%}, before {theirs:.1%}")
        worst, worst_old = max(worst, ours), max(worst_old, theirs)
    return [figure("false_calls_other_images", 100 * worst, 100 * worst_old, BEFORE, "%")]


def own_splits(users: int) -> list[dict[str, object]]:
    """Users of small sources whose seeds draw train and val anew; the learners are equally good on other images."""
    worst, worst_old = 0.0, 0.0
    for source in SOURCES:
        differences = split_differences(np.random.default_rng(6), users, MOST, source)
        check(differences[:50, :FIRST], source.overlap)
        looks = {
            n: [float((p_values(differences[:, :n], overlap)[0] <= ALPHA).mean()) for overlap in (source.overlap, 0.0)]
            for n in (3, 5, 10, 30)
        }
        ours = max(
            *(false_calls_extended(differences, which, source.overlap) for which in ("middle", "low", "high")),
            false_calls_adversary(differences, old=False, overlap=source.overlap),
        )
        old = false_calls_extended(differences, "middle")
        words = ", ".join(f"n = {n} {corrected:.1%} ({plain:.1%})" for n, (corrected, plain) in looks.items())
        print(
            f"own splits, train {source.train}, val {source.val}, {source.features} features, noise {source.noise}: "
            f"asked once, {words}; asked again {ours:.1%} ({old:.1%}); in brackets without the correction"
        )
        worst, worst_old = max(worst, ours, *(look[0] for look in looks.values())), max(worst_old, old)
    return [figure("false_calls_own_splits", 100 * worst, 100 * worst_old, "the test without the correction", "%")]


def selections(users: int) -> list[dict[str, object]]:
    """The best of 50 equal configs, over four corners of seed noise and interaction."""
    worst, worst_old = 0.0, 0.0
    for seeds in (3, 5):
        for noise in (0.05, 0.4):
            for together in (0.0, 1.0):
                came = best_of_50(np.random.default_rng(seeds), users, seeds, noise, together)
                print(
                    f"best of 50, n = {seeds}, seed noise {noise}, interaction {together}: bias {came.bias:+.2f} "
                    f"points, coverage {came.coverage:.1%}; before {came.old_bias:+.2f} points, {came.old_coverage:.1%}"
                )
                worst, worst_old = max(worst, abs(came.bias)), max(worst_old, abs(came.old_bias))
    return [figure("best_of_50_bias_points", worst, worst_old, "the best config's own mean on val", "points")]


def campaigns(users: int) -> list[dict[str, object]]:
    """Campaigns of 100 equal tries."""
    rates = [false_keep(users, np.random.default_rng(5), old=old) for old in (False, True)]
    print(f"100 equal tries at n = 3: a false one is kept in {rates[0]:.1%} of campaigns, before {rates[1]:.1%}")
    return [figure("false_keep_campaign", 100 * rates[0], 100 * rates[1], "each try at 0.025", "%")]


def coverages(users: int) -> None:
    """Coverage of the 95 % intervals of shares."""
    for share in (0.5, 0.9, 0.98, 0.995):
        for seeds in (3, 5, 10):
            parts = []
            for both in (False, True):
                ours, theirs = share_coverage(np.random.default_rng(seeds), users, seeds, share, both=both)
                parts.append(f"{'seeds and images' if both else 'seeds'} {ours:.1%} (before {theirs:.1%})")
            print(f"coverage of a share of {share}, n = {seeds}: {', '.join(parts)}")


def main() -> None:
    """Simulate, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4000)
    options = parser.parse_args()
    figures = extensions(options.users)
    first_look()
    figures += other_images(options.users)
    figures += own_splits(options.users)
    figures += selections(max(20, options.users // 10))
    figures += campaigns(10 * options.users)
    coverages(options.users)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
