"""``NAME/best@seed``: each seed begins with the pretraining of its own number."""

import pytest

from expflow.config.initial_weights import source_of_seed


@pytest.mark.parametrize("place", ["", "s3://bucket/runs/", "gs://lab/a/b/"])
def test_the_trial_of_the_same_seed_is_named_wherever_the_results_lie(place):
    assert source_of_seed(f"{place}pre/best@seed", 4) == f"{place}pre/best@4"
    assert source_of_seed(f"{place}pre/best@3", 4) == f"{place}pre/best@3"


@pytest.mark.parametrize("other", ["pre/best", "s3://bucket/runs/pre/best", "torchvision/W@seed", "a/b/best@seed"])
def test_other_sources_are_the_same_for_all_seeds(other):
    assert source_of_seed(other, 4) == other
