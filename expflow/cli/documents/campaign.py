"""``sweep --against … --campaign NAME --json`` and ``report --campaign NAME --json``: the tries of a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expflow.report.campaign import EXIT_CODES, CampaignTry


@dataclass(frozen=True)
class CampaignStep:
    """What can be done after a try.

    Attributes:
        action: ``adopt`` (the next tries go against this one) or ``add_seeds``.
        arguments: The command, or the words that it gets besides, an argument each.
    """

    action: Literal["adopt", "add_seeds"]
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class CampaignDocument:
    """The tries of a campaign.

    Attributes:
        document: Which document this is.
        version: Its version.
        campaign: Its name.
        tries: All tries in their order.
        current: The number of the try that this command was about; None where all were asked for.
        verdict: Its verdict; None where it has none yet.
        exit_code: What ``--exit-code`` leaves with: 0 better, 10 not better, 11 not resolved; None likewise.
        answered_from: Results that had trials of it already.
        notes: What a reader must know.
        next: What can be done now.
    """

    document: Literal["campaign"]
    version: Literal[1]
    campaign: str
    tries: tuple[CampaignTry, ...]
    current: int | None
    verdict: Literal["better", "not_better", "not_resolved"] | None
    exit_code: int | None
    answered_from: tuple[str, ...]
    notes: tuple[str, ...]
    next: tuple[CampaignStep, ...]


def campaign_document(
    campaign: str,
    tries: tuple[CampaignTry, ...],
    current: CampaignTry | None = None,
    answered_from: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> CampaignDocument:
    """The tries as plain data.

    Args:
        campaign: The campaign's name.
        tries: All tries in their order.
        current: The try that the command was about.
        answered_from: Results that had trials of it already.
        notes: What a reader must know.
    """
    result = current.result if current is not None else None
    return CampaignDocument(
        "campaign",
        1,
        campaign,
        tries,
        current.number if current is not None else None,
        result.verdict if result is not None else None,
        EXIT_CODES[result.verdict] if result is not None else None,
        answered_from,
        notes,
        _steps(current),
    )


def _steps(current: CampaignTry | None) -> tuple[CampaignStep, ...]:
    if current is None or current.result is None:
        return ()
    if current.result.verdict == "better":
        return (CampaignStep("adopt", ("--against", f"{current.name}/best")),)
    needed = current.result.seeds_needed
    if current.result.verdict == "not_resolved" and needed is not None and needed.middle is not None:
        return (CampaignStep("add_seeds", ("--set", f"sweep.seeds={needed.middle}")),)
    return ()
