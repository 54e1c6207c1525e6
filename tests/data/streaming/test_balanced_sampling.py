"""Classes that come equally often: exact, a function of seed and epoch, the same for any ranks and any memory."""

from collections import Counter

import numpy as np
import pytest

from expflow.data.specs import DigitScenesSpec, DigitsSpec
from expflow.data.streaming.epoch_order import EpochOrder
from expflow.data.streaming.loader import Loader, LoaderConfig, loader_for
from expflow.errors import UserError
from tests.data.tiny import tiny_shards

LABELS = [0] * 30 + [1] * 6 + [2] * 4
"""Classes of 40 samples, in two shards of 20."""


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    order = np.random.default_rng(0).permutation(40)
    labels = [LABELS[i] for i in order]
    return tiny_shards(tmp_path_factory.mktemp("rare") / "shards", [20, 20], labels=labels)


def config(root, **options):
    return LoaderConfig(root, "train", 8, 3, shuffle=True, balanced=True, **options)


def pass_of(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_each_class_comes_equally_often_and_each_sample_before_one_comes_again(rare):
    for epoch in range(3):
        batches = pass_of(Loader(config(rare)), epoch)
        labels = Counter(label for batch in batches for label in batch["label"].tolist())
        assert sorted(labels.values()) == [13, 13, 14]
        ids = Counter(id for batch in batches for id in batch["index"].tolist())
        of_class = {batch["index"][row].item(): batch["label"][row].item() for batch in batches for row in range(8)}
        for label in range(3):
            times = [count for id, count in ids.items() if of_class[id] == label]
            assert max(times) - min(times) <= 1
    assert len(ids) < 40


def test_the_draws_follow_from_seed_and_epoch_alone(rare):
    def ids(epoch, **options):
        return [batch["index"].tolist() for batch in pass_of(Loader(config(rare, **options)), epoch)]

    assert ids(0) == ids(0)
    assert ids(0) != ids(1)
    assert ids(1) == ids(1, memory_bytes=0, workers=2)  # streamed
    ranks = [ids(1, rank=rank, ranks=2) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == ids(1)


def test_a_pass_goes_on_where_it_was_cut(rare):
    whole = pass_of(Loader(config(rare)))
    cut = Loader(config(rare))
    steps = iter(cut)
    for _ in range(2):
        next(steps)
    rest = Loader(config(rare))
    rest.load_state_dict(cut.state_dict())
    assert [batch["index"].tolist() for batch in rest] == [batch["index"].tolist() for batch in whole[2:]]


def test_windows_balance_what_they_hold():
    """Twenty shards are three windows; memory holds one of them and reads the next."""
    labels = np.asarray(LABELS * 5)
    order = EpochOrder([10] * 20, 0, 0, labels=labels)
    draws = order.draws(0, len(order))
    assert len(draws) == 200
    for number, end in enumerate(order.ends.tolist()):
        held = set(order.windows[number].tolist())
        part = draws[end - 10 * len(held) : end] % 200
        assert {int(id) // 10 for id in part} <= held
        counts = np.unique(labels[part], return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


def test_a_sample_that_comes_again_is_augmented_anew(digits):
    spec = DigitsSpec(name="digits", batch_size=100, sampling="balanced", limit=60, train={"pad_and_crop": 4})
    seen: dict[int, list[bytes]] = {}
    for batch in loader_for(spec, digits.root, "train", seed=0, shuffle=True):
        for id, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            seen.setdefault(id, []).append(image.numpy().tobytes())
    repeated = [images for images in seen.values() if len(images) > 1]
    assert repeated
    assert any(len(set(images)) > 1 for images in repeated)


def test_val_and_the_training_set_in_order_stay_as_they_are(digits):
    spec = DigitsSpec(name="digits", batch_size=100, sampling="balanced")
    for split in ("train", "val"):
        ids = [id for batch in loader_for(spec, digits.root, split, seed=0, shuffle=False) for id in batch["index"]]
        assert [int(id) for id in ids] == list(range(len(ids)))


def test_sampling_is_no_part_of_what_shards_hold():
    plain = DigitsSpec(name="digits")
    assert plain.model_copy(update={"sampling": "balanced"}).description() == plain.description()
    assert DigitScenesSpec(name="digit_scenes").sampling == "natural"


def test_data_without_classes_are_refused(tmp_path):
    from expflow.data.prepare.build import prepare

    spec = DigitScenesSpec(
        name="digit_scenes", train_scenes=4, val_scenes=1, test_scenes=1, side=16, batch_size=2, sampling="balanced"
    )
    root = prepare(spec, cache=tmp_path / "cache").root
    with pytest.raises(UserError, match=r"data\.sampling: balanced .* have no field label"):
        loader_for(spec, root, "train", seed=0, shuffle=True)
