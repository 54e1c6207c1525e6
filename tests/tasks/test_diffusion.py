"""The mathematics of diffusion against slow second implementations, and numbers that belong to samples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from expflow.architectures import count
from expflow.architectures.ddpm_unet import embedded_steps
from expflow.registry import MODELS
from expflow.tasks.keyed_noise import FIXED, keyed_normal, keyed_uniform, sample_keys
from expflow.tasks.noise_schedule import NoiseSchedule, betas, sampling_times
from tests.architectures.nets import data


def test_the_network_of_cifar_has_the_parameters_of_the_paper() -> None:
    assert count(MODELS.spec("ddpm_unet")(name="ddpm_unet"), data(3, 32, 10)).params == 35_746_307


def test_betas_are_those_of_the_papers() -> None:
    linear, cosine = betas("linear", 1000), betas("cosine", 1000)
    assert (linear[0].item(), linear[-1].item()) == (pytest.approx(1e-4), pytest.approx(0.02))
    a = (1 - cosine).cumprod(0)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    assert a[499].item() == pytest.approx(f[500] / f[0])
    assert cosine.max().item() == pytest.approx(0.999)
    for kind in ("linear", "cosine"):
        assert (1 - betas(kind, 50)).prod().item() < 0.02, "of few steps the last image is noise as well"


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("t", [1, 7, 19])
def test_the_posterior_is_bayes_rule_on_a_grid(kind: str, t: int) -> None:
    schedule = NoiseSchedule(kind, 20)  # type: ignore[arg-type]
    beta = betas(kind, 20).numpy()  # type: ignore[arg-type]
    x0, xt = 0.3, -0.4
    before = math.prod(1 - b for b in beta[:t])
    grid = np.linspace(-8, 8, 400_001)
    prior = stats.norm.logpdf(grid, math.sqrt(before) * x0, math.sqrt(1 - before))
    likelihood = stats.norm.logpdf(xt, np.sqrt(1 - beta[t]) * grid, math.sqrt(beta[t]))
    weights = np.exp(prior + likelihood - (prior + likelihood).max())
    mean = float((weights * grid).sum() / weights.sum())
    variance = float((weights * (grid - mean) ** 2).sum() / weights.sum())
    ours = schedule.posterior(torch.full((1, 1, 1, 1), x0), torch.full((1, 1, 1, 1), xt), torch.tensor([t]))
    assert ours[0].item() == pytest.approx(mean, abs=1e-5)
    assert ours[1].item() == pytest.approx(variance, rel=1e-4)


def test_many_small_steps_make_what_one_large_one_does() -> None:
    schedule, generator = NoiseSchedule("linear", 30), torch.Generator().manual_seed(0)
    x = torch.full((200_000, 1, 1, 1), 0.7)
    for t in range(30):
        x = (1 - schedule.beta[t]).sqrt() * x + schedule.beta[t].sqrt() * torch.randn(x.shape, generator=generator)
    once = schedule.noised(torch.tensor([[[[0.7]]]]), torch.tensor([29]), torch.zeros(1, 1, 1, 1))
    assert x.mean().item() == pytest.approx(once.item(), abs=0.01)
    assert x.var().item() == pytest.approx(1 - schedule.a[29].item(), abs=0.01)


def test_image_and_noise_are_found_again() -> None:
    schedule, t = NoiseSchedule("cosine", 50), torch.tensor([0, 10, 40])
    x0, noise = torch.rand(3, 1, 2, 2) * 2 - 1, torch.randn(3, 1, 2, 2)
    x = schedule.noised(x0, t, noise)
    assert torch.allclose(schedule.image_of(x, t, noise), x0, atol=1e-4)
    assert torch.allclose(schedule.noise_of(x, t, x0), noise, atol=1e-4)


def test_with_eta_1_a_step_back_is_a_draw_from_the_posterior_and_with_0_nothing_is_random() -> None:
    schedule, t = NoiseSchedule("linear", 40), 25
    x0, noise = torch.full((100_000, 1, 1, 1), 0.2), torch.full((100_000, 1, 1, 1), -0.6)
    x = schedule.noised(x0, torch.full((len(x0),), t), noise)
    mean, variance = schedule.posterior(x0[:1], x[:1], torch.tensor([t]))
    drawn = schedule.earlier(x0, noise, t, t - 1, 1.0, torch.Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(mean.item(), abs=3e-3)
    assert drawn.var().item() == pytest.approx(variance.item(), rel=0.02)
    still = schedule.earlier(x0, noise, t, 10, 0.0, torch.Generator().manual_seed(0))
    assert still.min() == still.max()
    assert torch.allclose(still[:1], schedule.noised(x0[:1], torch.tensor([10]), noise[:1]))


def test_a_network_that_knows_the_image_walks_back_to_it_in_any_number_of_steps() -> None:
    schedule, x0 = NoiseSchedule("cosine", 100), torch.tensor([[[[0.5, -0.25]]]])
    for number in (1, 2, 7, 100):
        x, times = torch.randn(1, 1, 1, 2, generator=torch.Generator().manual_seed(1)), sampling_times(100, number)
        assert len(times) == number
        assert times[0] == 99
        for t, s in zip(times, [*times[1:], -1], strict=True):
            noise = schedule.noise_of(x, torch.tensor([t]), x0)
            x = schedule.earlier(x0, noise, t, s, 0.0, torch.Generator())
        assert torch.equal(x, x0)


def test_steps_are_embedded_as_by_hand() -> None:
    waves = embedded_steps(torch.tensor([0.0, 3.0]), 6)
    frequencies = [10_000 ** (-place / 2) for place in range(3)]
    assert waves[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert waves[1].tolist() == pytest.approx(
        [*(math.sin(3 * f) for f in frequencies), *(math.cos(3 * f) for f in frequencies)], abs=1e-6
    )


def splitmix(value: int) -> int:
    """The finalizer of splitmix64 with Python's whole numbers."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def test_keyed_numbers_are_splitmix64_in_whole_numbers() -> None:
    golden, seed, epoch, index, stream = 0x9E3779B97F4A7C15, 12345, 3, 17, 2
    key = splitmix((splitmix((splitmix(seed) + epoch * golden) % 2**64) + index * golden) % 2**64)
    begun = splitmix((key + stream * golden) % 2**64)
    expected = [(splitmix((begun + place * golden) % 2**64) >> 40) / 2**24 for place in (1, 2, 3)]
    batch = {"valid": torch.ones(1, dtype=torch.bool), "index": torch.tensor([index])}
    assert keyed_uniform(sample_keys(batch, seed, epoch), (3,), stream)[0].tolist() == expected


def test_keyed_numbers_belong_to_the_sample_alone_and_are_evenly_and_normally_spread() -> None:
    whole = {"valid": torch.ones(500, dtype=torch.bool), "index": torch.arange(500)}
    part = {"valid": torch.ones(2, dtype=torch.bool), "index": torch.tensor([499, 3])}
    numbers = keyed_normal(sample_keys(whole, 0, 1), (10, 20), 2)
    assert torch.equal(keyed_normal(sample_keys(part, 0, 1), (10, 20), 2), numbers[[499, 3]])
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 0.01
    even = keyed_uniform(sample_keys(whole, 0, FIXED), (200,), 1)
    assert stats.kstest(even.flatten().numpy(), "uniform").pvalue > 0.01
    assert even.min() >= 0
    assert even.max() < 1
    drawn = [
        keyed_uniform(sample_keys(whole, seed, epoch), (10, 20), 1).flatten(1)
        for seed, epoch in itertools.product((0, 1), (0, 1))
    ]
    correlations = np.corrcoef(torch.stack([even, *drawn]).flatten(1).numpy())
    assert np.abs(correlations - np.eye(5)).max() < 0.02
