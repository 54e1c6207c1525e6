"""What becomes of results whose code has changed since, as their user says in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from expflow.config.identity import canonical_json
from expflow.errors import CodeChanged, UserError
from expflow.ledger import SweepState, exists, load_state
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.continuation import continuation_problems
from expflow.sweep.plan import Plan, make_plan
from expflow.version import __version__

ANSWERS = ("new", "keep", "fresh")
"""``new``: this version of the code has results of its own, ``NAME+code=…``, beside those of the others. ``keep``: what
has ended counts as valid. ``fresh``: anew as ``NAME.2``, which the file means from then on."""


def plan_for_code(
    file: Path,
    sets: Sequence[str] = (),
    *,
    storage: Path | str | None = None,
    alone: bool = False,
    fresh: bool = False,
    answer: str = "",
) -> Plan:
    """A plan as :func:`~expflow.sweep.plan.make_plan` makes it, with other results where code has changed since.

    Args:
        file: The experiment's YAML file.
        sets: The ``--set`` arguments.
        storage: The folder of all results.
        alone: Ignore the file's sweep: one trial of the base recipe with seed 0.
        fresh: Begin new results beside those that are there, whatever code they are of.
        answer: One of :data:`ANSWERS`; "" leaves the plan as it is, and its driver refuses changed code.

    Raises:
        UserError: There is no such answer.
    """
    if answer not in ("", *ANSWERS):
        raise UserError(f"--changed-code {answer}: expected {', '.join(ANSWERS[:-1])} or {ANSWERS[-1]}")
    plan = make_plan(file, sets, storage=storage, alone=alone, fresh=fresh)
    if answer in ("", "keep") or changed_code(plan) is None:
        return plan
    if answer == "fresh":
        return make_plan(file, sets, storage=storage, alone=alone, fresh=True)
    return make_plan(file, sets, storage=storage, alone=alone, version=_version(user_modules(plan.loaded)))


def changed_code(plan: Plan) -> CodeChanged | None:
    """Why a plan may not go on with its results because of its code; None where it may.

    Args:
        plan: The plan.
    """
    before = load_state(plan.folder) if exists(plan.folder) else SweepState()
    problem = next(continuation_problems(plan, before, user_modules(plan.loaded)), None)
    return problem if isinstance(problem, CodeChanged) else None


def _version(code: Mapping[str, str]) -> str:
    """A short name of a version of the user's code, and of expflow's."""
    digest = sha256(canonical_json({"expflow": __version__, "code": dict(code)}).encode()).hexdigest()
    return f"+code={digest[:8]}"
