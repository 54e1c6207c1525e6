"""The controller's network: a recurrent network that writes one choice after another, with its own gradient.

It is numpy in double precision: the driver imports no torch, and a child's worth of choices is a hundred small
products.

Source:
    Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", sections 3.1 and 3.2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = dict[str, Array]
Choices = Sequence[tuple[int, int]]
"""Decisions in order, each with the place of what was chosen."""

BETAS = (0.9, 0.999)
EPSILON = 1e-8
INITIAL = 0.1
"""Weights begin uniformly between minus and plus this."""


@dataclass
class _Step:
    """What the backward pass needs of one step of the recurrent network.

    ``entering_e``: its input; ``hidden_h`` and ``memory_h``: the state before; ``gates_4h``: input, forget and output
    gate and candidate; ``squashed_h``: tanh of the state after; ``after_h``: hidden state after.
    """

    entering_e: Array
    hidden_h: Array
    memory_h: Array
    gates_4h: Array
    squashed_h: Array
    after_h: Array


@dataclass(frozen=True)
class PolicyLoss:
    """What the controller minimises over a batch of children, and its gradient.

    Attributes:
        loss: Mean over children of -advantage * log-probability - entropy weight * entropy.
        gradient: By parameter.
    """

    loss: float
    gradient: Parameters


class RecurrentPolicy:
    """An LSTM that reads its last choice and gives the probabilities of the next.

    Args:
        counts: Number of options of each decision.
        hidden: Units of the LSTM, and length of the vector that a choice is read as.
        seed: Seed of the initial weights.
    """

    def __init__(self, counts: Sequence[int], hidden: int, seed: int) -> None:
        generator = random.Random(seed)  # noqa: S311  no secret
        self.hidden = hidden
        shapes = {"start": (hidden,), "weight": (2 * hidden, 4 * hidden), "bias": (4 * hidden,)}
        for place, count in enumerate(counts):
            shapes |= {f"read{place}": (count, hidden), f"head{place}": (hidden, count), f"shift{place}": (count,)}
        self.parameters: Parameters = {
            name: np.array([generator.uniform(-INITIAL, INITIAL) for _ in range(int(np.prod(shape)))]).reshape(shape)
            for name, shape in shapes.items()
        }

    def draw(self, active: Callable[[dict[int, int]], Sequence[int]], rng: random.Random) -> list[tuple[int, int]]:
        """Choices drawn from the policy.

        Args:
            active: Gives the next active decisions, in order, of those that were chosen so far.
            rng: Where the randomness comes from.
        """
        chosen: dict[int, int] = {}
        state = np.zeros(self.hidden), np.zeros(self.hidden)
        entering_e = self.parameters["start"]
        while waiting := active(chosen):
            place = waiting[0]
            step, memory_h = self._advance(entering_e, *state)
            state = step.after_h, memory_h
            probabilities = np.cumsum(self._probabilities(place, step.after_h))
            option = min(int(np.searchsorted(probabilities, rng.random(), side="right")), len(probabilities) - 1)
            chosen[place] = option
            entering_e = self.parameters[f"read{place}"][option]
        return list(chosen.items())

    def loss(self, children: Sequence[Choices], advantages: Sequence[float], entropy: float) -> PolicyLoss:
        """The loss over a batch of children, and its gradient.

        Args:
            children: The choices of each.
            advantages: How much better than expected each was.
            entropy: Weight of the entropy of all distributions along the way.
        """
        gradient = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        loss = sum(
            self._add_child(choices, advantage, entropy, gradient)
            for choices, advantage in zip(children, advantages, strict=True)
        )
        for value in gradient.values():
            value /= len(children)
        return PolicyLoss(loss / len(children), gradient)

    def _add_child(self, choices: Choices, advantage: float, entropy: float, gradient: Parameters) -> float:
        """Adds one child's gradient to ``gradient``; gives its loss."""
        steps, shifts, loss = list[_Step](), list[Array](), 0.0
        state = np.zeros(self.hidden), np.zeros(self.hidden)
        entering_e = self.parameters["start"]
        for place, option in choices:
            step, memory_h = self._advance(entering_e, *state)
            state = step.after_h, memory_h
            probabilities = self._probabilities(place, step.after_h)
            logs = np.log(np.maximum(probabilities, 1e-300))
            spread = -float(probabilities @ logs)
            loss -= advantage * float(logs[option]) + entropy * spread
            shift = advantage * probabilities + entropy * probabilities * (logs + spread)
            shift[option] -= advantage
            steps.append(step)
            shifts.append(shift)
            entering_e = self.parameters[f"read{place}"][option]
        self._go_back(choices, steps, shifts, gradient)
        return loss

    def _go_back(self, choices: Choices, steps: Sequence[_Step], shifts: Sequence[Array], gradient: Parameters) -> None:
        """Backpropagation through the steps; ``shifts`` are the gradients of the scores of each."""
        to_hidden_h, to_memory_h = np.zeros(self.hidden), np.zeros(self.hidden)
        for number in reversed(range(len(steps))):
            step, shift, place = steps[number], shifts[number], choices[number][0]
            gradient[f"head{place}"] += np.outer(step.after_h, shift)
            gradient[f"shift{place}"] += shift
            to_hidden_h = to_hidden_h + self.parameters[f"head{place}"] @ shift
            entry, forget, exit_, candidate = np.split(step.gates_4h, 4)
            to_memory_h = to_memory_h + to_hidden_h * exit_ * (1 - step.squashed_h**2)
            to_gates = np.concatenate(
                [
                    to_memory_h * candidate * entry * (1 - entry),
                    to_memory_h * step.memory_h * forget * (1 - forget),
                    to_hidden_h * step.squashed_h * exit_ * (1 - exit_),
                    to_memory_h * entry * (1 - candidate**2),
                ]
            )
            gradient["weight"] += np.outer(np.concatenate([step.entering_e, step.hidden_h]), to_gates)
            gradient["bias"] += to_gates
            to_entering, to_hidden_h = np.split(self.parameters["weight"] @ to_gates, 2)
            to_memory_h = to_memory_h * forget
            if number:
                before, option = choices[number - 1]
                gradient[f"read{before}"][option] += to_entering
            else:
                gradient["start"] += to_entering

    def _advance(self, entering_e: Array, hidden_h: Array, memory_h: Array) -> tuple[_Step, Array]:
        """One step of the LSTM, and its memory afterwards."""
        sums = np.concatenate([entering_e, hidden_h]) @ self.parameters["weight"] + self.parameters["bias"]
        units = self.hidden
        gates = np.concatenate([1 / (1 + np.exp(-sums[: 3 * units])), np.tanh(sums[3 * units :])])
        entry, forget, exit_, candidate = np.split(gates, 4)
        after = forget * memory_h + entry * candidate
        squashed = np.tanh(after)
        return _Step(entering_e, hidden_h, memory_h, gates, squashed, exit_ * squashed), after

    def _probabilities(self, place: int, hidden_h: Array) -> Array:
        scores = hidden_h @ self.parameters[f"head{place}"] + self.parameters[f"shift{place}"]
        weights = np.exp(scores - scores.max())
        probabilities: Array = weights / weights.sum()
        return probabilities


@dataclass
class Adam:
    """Adam on named arrays, which it changes in place.

    Source:
        Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """

    lr: float
    steps: int = 0
    means: Parameters = field(default_factory=dict)
    squares: Parameters = field(default_factory=dict)

    def step(self, parameters: Parameters, gradient: Parameters) -> None:
        """Take a step down the gradient.

        Args:
            parameters: What is changed.
            gradient: By parameter.
        """
        self.steps += 1
        corrections = [1 - beta**self.steps for beta in BETAS]
        for name, slope in gradient.items():
            mean = self.means.setdefault(name, np.zeros_like(slope))
            square = self.squares.setdefault(name, np.zeros_like(slope))
            mean += (1 - BETAS[0]) * (slope - mean)
            square += (1 - BETAS[1]) * (slope**2 - square)
            parameters[name] -= self.lr * (mean / corrections[0]) / (np.sqrt(square / corrections[1]) + EPSILON)
