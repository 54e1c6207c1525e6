"""CLIP: its loss against hand-worked values and a slow second implementation, over ranks too, and its towers."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing, nn

from expflow.architectures import build, count
from expflow.architectures.catalogue import usual_data
from expflow.architectures.clip import CLIP
from expflow.config import load
from expflow.config.schema import Recipe
from expflow.errors import ExperimentInvalid, UserError
from expflow.registry import MODELS
from expflow.tasks import build_task
from expflow.tasks.clip import CLIPTask, contrast, ranks_of, same_texts
from expflow.training.transfer.weight_loading import fitting_weights
from tests.architectures.nets import data
from tests.tasks.test_task_contract import CAPTIONED, recipe_of

TOWERS = {"backbone": "vit", "patch": 2, "depth": 1, "width": 4, "heads": 2, "embedding": 3, "text_width": 4}
SMALL = {**TOWERS, "text_depth": 2, "text_heads": 2}


def spec_of(**keys: Any) -> Any:
    return MODELS.spec("clip").model_validate_json(json.dumps({"name": "clip", **keys}))


def small(seed: int = 0, **keys: Any) -> CLIP:
    torch.manual_seed(seed)
    network = build(spec_of(**(SMALL | keys)), CAPTIONED)
    assert isinstance(network, CLIP)
    return network.eval()


def test_the_papers_network_has_the_papers_parameters() -> None:
    spec = spec_of(backbone="vit", patch=32, norm_first=True, patch_bias=False)
    assert count(spec, usual_data(spec)).params == 151_277_313


def slow_loss(image: Tensor, text: Tensor, tokens: list[list[int]], valid: list[bool], scale: float) -> list[float]:
    """The loss of each pair, number by number."""
    values = []
    for row in range(len(image)):
        total = 0.0
        answers = [at for at in range(len(image)) if valid[at] and tokens[at] == tokens[row]]
        for asking, others in ((image[row], text), (text[row], image)):
            scores = [scale * float(asking @ other) for other in others]
            log_sum = math.log(sum(math.exp(score) for score, counts in zip(scores, valid, strict=True) if counts))
            total += sum(log_sum - scores[answer] for answer in answers) / len(answers)
        values.append(total / 2)
    return values


def pairs(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(nn.functional.normalize(torch.randn(number, 3, generator=generator), dim=1) for _ in range(2))  # type: ignore[return-value]


def test_the_loss_is_that_of_a_slow_implementation() -> None:
    image, text = pairs(6)
    tokens = torch.tensor([[3, 2], [4, 2], [3, 2], [5, 2], [3, 2], [5, 2]])
    valid = torch.tensor([True, True, True, True, False, True])
    same = same_texts(tokens, valid)
    expected = slow_loss(image, text, tokens.tolist(), valid.tolist(), 7.0)
    actual = contrast(image, text, same, torch.tensor(7.0), slice(None))
    for row in range(6):
        if valid[row]:
            assert actual[row].item() == pytest.approx(expected[row], rel=1e-5)
    assert torch.allclose(contrast(image, text, same, torch.tensor(7.0), slice(2, 4)), actual[2:4])


def test_two_pairs_apart_have_the_loss_that_is_worked_by_hand() -> None:
    image = text = torch.eye(2)
    same = torch.eye(2, dtype=torch.bool)
    expected = math.log(1 + math.exp(-10))
    assert torch.allclose(
        contrast(image, text, same, torch.tensor(10.0), slice(None)), torch.tensor(expected), atol=1e-6
    )
    alike = torch.ones(2, 2, dtype=torch.bool)  # one text for both: half of each answer is 10 away
    assert torch.allclose(
        contrast(image, text, alike, torch.tensor(10.0), slice(None)), torch.tensor(expected + 5), atol=1e-6
    )


def test_a_rank_counts_wrong_answers_that_score_as_much_and_takes_the_best_right_one() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.4, 0.4, 0.4], [0.7, 0.6, 0.5]])
    assert ranks_of(scores, torch.eye(3, dtype=torch.bool)).tolist() == [1, 3, 3]
    same = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    assert ranks_of(scores, same).tolist() == [1, 3, 1]


def task_of(seed: int = 0) -> CLIPTask:
    torch.manual_seed(seed)
    task = build_task(recipe_of("clip"), CAPTIONED)
    assert isinstance(task, CLIPTask)
    return task


def batch_of(number: int) -> dict[str, Tensor]:
    """Some pairs, among them two with one text on different ranks; the last is padding."""
    generator = torch.Generator().manual_seed(4)
    text = torch.tensor([[3, 4, 2, 0, 0], [4, 4, 3, 3, 2], [4, 2, 0, 0, 0], [3, 4, 2, 0, 0], [4, 3, 2, 0, 0]])
    image = torch.randint(0, 256, (number, 1, 4, 4), generator=generator, dtype=torch.uint8)
    places = torch.arange(number)
    return {"image": image, "text": text[places % 5], "valid": places < number - 1, "index": places}


def _one_rank(rank: int, port: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_default_dtype(torch.float64)  # so that 1e-6 is no question of rounding
    task, batch = task_of(), {name: values[4 * rank : 4 * rank + 4] for name, values in batch_of(8).items()}
    task._ranks = 2
    task.training_step(batch, 0).backward()
    for parameter in task.parameters():
        torch.distributed.all_reduce(parameter.grad)
    torch.save([parameter.grad / 2 for parameter in task.parameters()], f"{folder}/{rank}.pt")  # type: ignore[operator]
    torch.distributed.destroy_process_group()


def test_two_ranks_have_the_gradients_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_one_rank, (port, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    torch.set_default_dtype(torch.float64)
    try:
        task = task_of()
        task.training_step(batch_of(8), 0).backward()
    finally:
        torch.set_default_dtype(torch.float32)
    largest = max(parameter.grad.abs().max() for parameter in task.parameters() if parameter.grad is not None)
    assert largest > 1e-2
    for rank in range(2):
        for parameter, of_rank in zip(task.parameters(), torch.load(tmp_path / f"{rank}.pt"), strict=True):
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, of_rank, rtol=1e-6, atol=1e-6)


def test_the_scale_never_decays_and_stays_at_100() -> None:
    for optimizer in ("adamw", "sgd", "lamb"):
        task = build_task(recipe_of("clip", optimizer={"name": optimizer, "lr": 1e-3, "weight_decay": 0.1}), CAPTIONED)
        assert isinstance(task, CLIPTask)
        scale = task.model.log_scale
        groups = task.new_optimizer().param_groups
        holding = [group for group in groups if any(weight is scale for weight in group["params"])]
        assert [group["weight_decay"] for group in holding] == [0.0]
        assert sum(len(group["params"]) for group in groups) == len(list(task.parameters()))
    scale.data.fill_(9.0)
    task.on_train_batch_end(None, None, 0)
    assert scale.exp().item() == pytest.approx(100.0)
    assert small().log_scale.exp().item() == pytest.approx(1 / 0.07)


def test_what_lies_behind_the_end_of_a_text_changes_nothing() -> None:
    network = small()
    first, second = (torch.tensor([[3, 4, 2, *rest]]) for rest in ((0, 0), (4, 3)))
    with torch.no_grad():
        assert torch.allclose(network.text_embedding(first), network.text_embedding(second), atol=1e-6)
        other = network.text_embedding(torch.tensor([[4, 3, 2, 0, 0]]))
        assert not torch.allclose(network.text_embedding(first), other, atol=1e-4)


@pytest.mark.parametrize("backbone", [{"backbone": "resnet", "depth": 8, "width": 4}, {}])
def test_the_image_tower_goes_into_the_classification_network(backbone: dict[str, Any]) -> None:
    keys = {key: value for key, value in SMALL.items() if not backbone or key.startswith(("text", "embedding"))}
    spec = spec_of(**keys, **backbone)
    trained = build(spec, CAPTIONED)
    network = build(spec.backbone_spec(), CAPTIONED)
    saved = {f"model.{name}": value for name, value in trained.state_dict().items()}
    fitting = fitting_weights(network, saved, head="new", origin="a sweep")
    assert {name for name in network.state_dict() if not name.startswith("head.")} == fitting.keys()
    assert all(torch.equal(fitting[name], saved[f"model.image.{name}"]) for name in fitting)


TRIAL = """
data: {name: emoji, last: drop}
model: {name: clip, backbone: vit, patch: 8}
task: clip
optimizer: adam
"""


def recipe(text: str, folder: Path) -> Recipe:
    (folder / "trial.yaml").write_text(text)
    return load(folder / "trial.yaml").experiment.recipe


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (("last: drop", "last: keep"), "data.last", "a batch of fewer pairs"),
        (("last: drop", "last: drop, train: {mixup: 0.2}"), "data.train.mixup", "for the sake of their classes"),
        (("task: clip", "task: clip\ntrainer: {accumulate: 2}"), "trainer.accumulate", "compares the pairs of a batch"),
        (("task: clip", "task: clip\nloss: squared"), "loss", "does not use this slot"),
        (("{name: clip, backbone: vit, patch: 8}", "linear"), "model", "gives one score for each class"),
        (("patch: 8", "patch: 8, text_heads: 3"), "model.text_heads", "do not divide a width of 512; nearest: 2"),
        (("patch: 8", "patches: 8"), "model.patches", "unknown key"),
    ],
)
def test_misuse_is_refused_with_a_reason(change: tuple[str, str], key: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalid) as raised:
        recipe(TRIAL.replace(*change), tmp_path)
    assert any(problem.key == key and words in problem.message for problem in raised.value.problems), raised.value


def test_data_without_texts_and_backbones_without_a_linear_end_are_refused() -> None:
    with pytest.raises(UserError, match="the fields image and text; these have image"):
        build(spec_of(**SMALL), data(1, 4, 7))
    with pytest.raises(UserError, match="does not end in one linear layer"):
        build(spec_of(backbone="squeezenet"), usual_data(spec_of(backbone="squeezenet")))
