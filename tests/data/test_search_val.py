"""``search_val``: what a search may see is cut from train; val and test are left out."""

import pytest

from expflow.config import load
from expflow.data.prepare.prepared import data_key
from expflow.data.sources.base import with_search_val
from expflow.data.sources.digits import open_digits
from expflow.data.specs import DigitsSpec
from expflow.errors import ExperimentInvalid


def names(source):
    return {split: {item.name for item in items} for split, items in source.splits.items()}


def test_val_is_a_part_of_train_and_nothing_of_val_or_test_is_left():
    spec = DigitsSpec(name="digits")
    whole = names(open_digits(spec, None))
    cut = names(with_search_val(open_digits(spec, None), spec.model_copy(update={"search_val": 0.2})))
    assert set(cut) == {"train", "val"}
    assert not cut["train"] & cut["val"]
    assert cut["train"] | cut["val"] == whole["train"]
    assert len(cut["val"]) == pytest.approx(0.2 * len(whole["train"]), abs=10)


def test_it_is_another_data_set_and_its_absence_changes_no_key():
    spec = DigitsSpec(name="digits")
    assert "search_val" not in spec.description()
    assert data_key(spec) != data_key(spec.model_copy(update={"search_val": 0.2}))


def test_splits_of_trials_own_are_refused_beside_it(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text("data: {name: digits, split_seed: trial, search_val: 0.2}\nmodel: mlp\ntask: classification\n")
    with pytest.raises(ExperimentInvalid, match="a search compares children on one split"):
        load(file)
