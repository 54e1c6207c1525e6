"""The declared contrasts and their answers, by the rules of docs/inference.md."""

from __future__ import annotations

from pathlib import Path

from expflow.ledger.state import SweepState
from expflow.report import trial_results
from expflow.report.analyses import asked_variants, declared_count
from expflow.report.contrast_answers import Answer, conclude_contrast, family_levels
from expflow.report.contrast_sentences import answer_in_words
from expflow.report.contrast_tests import ask_contrast
from expflow.report.image_differences import ImageDifferences
from expflow.sweep.result_location import related_results


def answers(state: SweepState, folder: Path | None = None) -> list[Answer]:
    """One answer for each contrast that the experiment declares, in the file's order.

    Args:
        state: What the ledger adds up to.
        folder: The results folder with the kept predictions, which say for which images an answer holds, and other
            results of the experiment beside it; without it every answer is about these images.
    """
    header = trial_results.header_of(state)
    images = ImageDifferences(folder, state) if folder is not None else None
    asked = [ask_contrast(contrast, state, images) for contrast in header.report.get("contrasts", ())]
    if not asked:
        return []
    searched = trial_results.searched_keys(state)
    family = family_levels(asked, max(len(asked), declared_count(state)))
    related = list(related_results(folder, state).values()) if folder is not None else []
    numbers = [
        conclude_contrast(contrast, level, header, elsewhere=asked_variants(contrast.contrast, related))
        for contrast, level in zip(asked, family, strict=True)
    ]
    return [answer_in_words(answer, one, header, searched) for answer, one in zip(numbers, asked, strict=True)]
