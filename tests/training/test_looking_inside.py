"""Top patches, guided backpropagation, dreams and attention, on networks of which the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from expflow.architectures.attention import MultiHeadAttention
from expflow.architectures.layer_table import layer_field
from expflow.config import load
from expflow.data.prepare.build import prepare
from expflow.errors import UserError
from expflow.report.inside_figures import text_attention_figure
from expflow.training import Attempt, World
from expflow.training.evaluation.attention_maps import attention_maps, attention_rollout, attention_weights
from expflow.training.evaluation.dreams import dream
from expflow.training.evaluation.evaluator import Evaluator, open_evaluator
from expflow.training.evaluation.guided import InvertedReLUs
from expflow.training.evaluation.text_attention import _of_text, text_attention, word_numbers
from expflow.training.evaluation.top_patches import top_patches

pytestmark = pytest.mark.timeout(120)

NETS = {
    "resnet": "model: {name: resnet, layout: cifar, depth: 8, width: 4}",
    "vit": "model: {name: vit, patch: 2, depth: 3, width: 8, heads: 2, mlp_ratio: 2}",
    "linear": "model: linear",
}


@pytest.fixture(scope="module")
def evaluators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inside")
    files = {}
    for name, model in NETS.items():
        files[name] = folder / f"{name}.yaml"
        files[name].write_text(
            f"data: {{name: digits, batch_size: 64}}\n{model}\ntask: classification\noptimizer: sgd\n"
        )
    return files


@pytest.fixture
def opened(request: pytest.FixtureRequest, evaluators: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    recipe = load(evaluators[request.param]).experiment.recipe
    root = prepare(recipe.data, cache=tmp_path_factory.getbasetemp() / "inside-cache").root
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        yield evaluator


def weights_of(evaluator: Evaluator):
    return {name: value.clone() for name, value in evaluator.task.state_dict().items()}


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_patches_are_where_a_unit_looks(opened):
    """The first filter is made to see one pixel: the brightest pixel of each image is in the middle of its patch."""
    weights = weights_of(opened)
    name = next(key for key in weights if key.endswith("stem.conv.weight"))
    weights[name] = torch.zeros_like(weights[name])
    weights[name][0, 0, 1, 1] = 1.0
    top = top_patches(opened, weights, "stem.conv")
    assert (top.maps, top.field, top.whole, top.images) == (4, (3, 3), False, 397)
    patches, *others = top.patches
    assert len(patches) == 9
    assert others == [(), (), ()]  # these are zero everywhere
    for patch in patches:
        assert patch.picture.shape == (3, 3, 1)
        assert patch.picture[1, 1, 0] == 255
    assert [patch.value for patch in patches] == sorted((patch.value for patch in patches), reverse=True)


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_only_pixels_that_a_unit_sees_have_gradients(opened):
    top = top_patches(opened, weights_of(opened), "layer1.0.conv2", inverted_by="guided")
    assert top.field == (7, 7)
    for patch in (patch for patches in top.patches for patch in patches):
        assert patch.inverted is not None
        assert patch.inverted.shape == (7, 7, 1)
        assert np.abs(patch.inverted).max() > 0


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_units_that_see_all_show_whole_images(opened):
    top = top_patches(opened, weights_of(opened), "layer3.0")
    assert top.whole
    assert {patch.picture.shape for patches in top.patches for patch in patches} == {(8, 8, 1)}


@pytest.mark.parametrize(
    ("opened", "layer", "words"),
    [
        ("resnet", "layer9", "no layer 'layer9'"),
        ("vit", "layers.0", "show --attention"),
        ("vit", "patches", "show --attention"),
    ],
    indirect=["opened"],
)
def test_layers_without_maps_are_refused(opened, layer, words):
    with pytest.raises(UserError, match=words):
        top_patches(opened, weights_of(opened), layer)


@pytest.mark.parametrize("opened", ["vit"], indirect=True)
@pytest.mark.parametrize(("rule", "words"), [("guided", "guided backpropagation"), ("deconvnet", "the deconvnet")])
def test_what_has_no_relus_is_not_inverted(opened, rule, words):
    with pytest.raises(UserError, match=f"{words} follows ReLUs"):
        top_patches(opened, weights_of(opened), "head", inverted_by=rule)


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_the_rule_is_kept_and_changes_what_is_drawn(opened):
    weights = weights_of(opened)
    drawn = [top_patches(opened, weights, "layer1.0.conv2", inverted_by=rule) for rule in ("guided", "deconvnet")]
    assert [top.inverted_by for top in drawn] == ["guided", "deconvnet"]
    guided, deconvnet = ([patch for patches in top.patches for patch in patches] for top in drawn)
    assert [patch.value for patch in guided] == [patch.value for patch in deconvnet]
    assert any(not np.array_equal(a.inverted, b.inverted) for a, b in zip(guided, deconvnet, strict=True))


def test_the_box_of_a_unit_holds_exactly_the_pixels_that_change_it():
    """Convolutions and pools of odd and even kernels, strides and paddings; at the border padding hides some pixels."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 5, stride=2, padding=1), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 1, 2)
    )
    image = torch.randn(1, 1, 40, 36, requires_grad=True)
    field = layer_field(network, image.detach(), "3")
    assert field is not None
    out, inside = network(image), 0
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            (gradient,) = torch.autograd.grad(out[0, 0, row, column], image, retain_graph=True)
            rows, columns = gradient[0, 0].nonzero().T
            top, left, bottom, right = field.box(row, column)
            changing = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            if top >= 0 and left >= 0 and bottom <= 40 and right <= 36:
                inside += 1
                assert changing == (top, left, bottom, right)
            assert top <= changing[0]
            assert left <= changing[1]
            assert changing[2] <= bottom
            assert changing[3] <= right
    assert inside > 9


def test_guided_backpropagation_by_hand():
    """Of three paths one has a negative gradient, one a negative unit: the third alone passes."""
    x = torch.tensor([1.0, -1.0, 1.0], requires_grad=True)
    with InvertedReLUs("guided") as guided:
        value = (nn.ReLU()(x) * torch.tensor([1.0, 1.0, -1.0])).sum()
    assert torch.autograd.grad(value, x)[0].tolist() == [1, 0, 0]
    assert (guided.relus, guided.others) == (1, 0)
    y = torch.tensor([1.0, -1.0, 1.0], requires_grad=True)
    plain = (nn.ReLU()(y) * torch.tensor([1.0, 1.0, -1.0])).sum()  # outside of it ReLUs are torch's again
    assert torch.autograd.grad(plain, y)[0].tolist() == [1, 0, -1]


def test_the_deconvnet_by_hand():
    """Positive gradients pass at negative units too, negative ones nowhere; pooling puts them where the maximum was."""
    x = torch.tensor([[[1.0, 3.0, -2.0, -5.0, 4.0, 1.0]]], requires_grad=True)
    with InvertedReLUs("deconvnet") as relus:
        pooled = nn.functional.max_pool1d(torch.relu(x - 0.5), 2)  # 2.5 of the second, 0 of the third, 3.5 of the fifth
        value = (pooled * torch.tensor([2.0, 5.0, -7.0])).sum()
    assert value.item() == 2 * 2.5 - 7 * 3.5
    assert torch.autograd.grad(value, x)[0].tolist() == [[[0, 2, 5, 0, 0, 0]]]
    assert relus.relus == 1


def test_the_deconvnet_is_transposed_filters_switches_and_relus():
    """Against the network of the paper, built of torch's transposed convolutions and unpooling."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3)
    image = torch.randn(1, 3, 12, 12, requires_grad=True)
    with InvertedReLUs("deconvnet"):
        unit = second(nn.MaxPool2d(2)(nn.ReLU()(first(image))))[0, 2, 1, 3]
    (projected,) = torch.autograd.grad(unit, image)

    maps = torch.relu(first(image))
    _, switches = nn.functional.max_pool2d(maps, 2, return_indices=True)
    one = torch.zeros(1, 5, 4, 4)
    one[0, 2, 1, 3] = 1
    unpooled = nn.functional.max_unpool2d(nn.functional.conv_transpose2d(one, second.weight), switches, 2)
    expected = nn.functional.conv_transpose2d(torch.relu(unpooled), first.weight, padding=1)
    assert torch.allclose(projected, expected, atol=1e-6)
    assert expected.abs().max() > 0


@pytest.mark.parametrize("opened", ["linear", "resnet"], indirect=True)
def test_a_dream_of_a_class_is_taken_for_it(opened):
    made = dream(opened, weights_of(opened), "7")
    assert made.is_class
    assert {picture.shape for picture in (*made.before, *made.after)} == {(8, 8, 1)}
    assert all(after > before for before, after in made.gain)
    again = dream(opened, weights_of(opened), "7")
    assert all(np.array_equal(*pair) for pair in zip(made.after, again.after, strict=True))


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_a_dream_of_a_layer_finds_more_in_images(opened):
    made = dream(opened, weights_of(opened), "layer1.0")
    assert not made.is_class
    assert all(after > before for before, after in made.gain)
    with pytest.raises(UserError, match=r"'seven' is no class \(0, 1"):
        dream(opened, weights_of(opened), "seven")


def test_attention_weights_are_those_that_the_layer_uses():
    torch.manual_seed(0)
    attention, x_btw = MultiHeadAttention(8, 2), torch.randn(3, 5, 8)
    weights = attention_weights(attention, x_btw)
    assert torch.allclose(weights.sum(3), torch.ones(3, 2, 5))
    values = attention.value(x_btw).view(3, 5, 2, 4).transpose(1, 2)
    assert torch.allclose(attention.output((weights @ values).transpose(1, 2).flatten(2)), attention(x_btw), atol=1e-6)


def test_the_rollout_by_hand():
    first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    second = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert attention_rollout([first, second])[0].tolist() == [[0.75, 0.25], [0.5, 0.5]]


@pytest.mark.parametrize("opened", ["vit"], indirect=True)
def test_attention_maps_have_the_patches_of_the_image(opened):
    maps = attention_maps(opened, weights_of(opened))
    assert (maps.layers.shape, maps.heads.shape, maps.rollout.shape) == ((6, 3, 4, 4), (6, 2, 4, 4), (6, 4, 4))
    assert maps.from_token
    assert (maps.layers.sum((2, 3)) < 1).all()  # the class token keeps a part
    assert (maps.layers > 0).all()


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_attention_is_of_transformers(opened):
    with pytest.raises(UserError, match="this network is ResNet"):
        attention_maps(opened, weights_of(opened))


@pytest.fixture
def texts(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("texts")
    file = folder / "dates.yaml"
    file.write_text(
        "data: {name: written_dates, train_dates: 40, val_dates: 8, test_dates: 1, batch_size: 8}\n"
        "model: {name: transformer, width: 8, depth: 2, heads: 2, hidden: 8}\ntask: seq2seq\noptimizer: adam\n"
    )
    recipe = load(file).experiment.recipe
    root = prepare(recipe.data, cache=folder).root
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        yield evaluator


def test_the_attention_of_texts_is_between_what_was_read_and_what_was_written(texts):
    shown = text_attention(texts, weights_of(texts))
    assert 1 <= len(shown) <= 4
    for text in shown:
        assert text.weights.shape == (len(text.written), len(text.source))
        assert np.allclose(text.weights.sum(1), 1, atol=1e-5)
        assert text.source[-1] == "·"
    figure = text_attention_figure(shown, "dates")
    assert figure.name == "attention"


def test_characters_are_put_together_as_words_and_keep_their_attention():
    words, answers = ("<pad>", "<start>", "<end>", " ", "a", "b"), ("<pad>", "<start>", "<end>", " ", "x", "y")
    read, wrote = torch.tensor([4, 5, 3, 4, 2, 0]), torch.tensor([4, 3, 5, 5, 2, 0])
    weights = torch.full((6, 6), 0.2)
    weights[0, :5] = torch.tensor([0.5, 0.1, 0.0, 0.3, 0.1])
    text = _of_text(read, wrote, weights, words, answers)
    assert (text.source, text.written) == (("ab", "a", "·"), ("x", "yy"))
    assert np.allclose(text.weights, [[0.6, 0.25, 0.15], [0.6, 0.2, 0.2]])  # the space of "x " is averaged with it
    assert word_numbers("ab c") == [0, 0, 0, 1]


@pytest.mark.parametrize("opened", ["resnet"], indirect=True)
def test_the_attention_of_texts_is_of_networks_that_write(opened):
    with pytest.raises(UserError, match="this network is ResNet, and no transformer that writes texts"):
        text_attention(opened, weights_of(opened))


def test_texts_are_not_shown_to_layers(texts):
    for look in (lambda: dream(texts, weights_of(texts), "decoder.0"), lambda: top_patches(texts, {}, "decoder.0")):
        with pytest.raises(UserError, match="shown by images, and this task's network takes none"):
            look()


PLAYERS = {
    "gan": (
        "  generator: {name: dcgan_generator, latent: 4, width: 2}\n"
        "  discriminator: {name: dcgan_discriminator, width: 2}\ntask: gan\n"
    ),
    "pix2pix": (
        "  generator: {name: pix2pix_generator, width: 2}\n"
        "  discriminator: {name: patch_discriminator, width: 2, layers: 1, sees: pair}\n"
        "task: {name: pix2pix, condition: edges}\n"
    ),
}


@pytest.fixture
def players(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("players")
    file = folder / "players.yaml"
    file.write_text(
        "data: {name: digits, image_size: 16, batch_size: 64}\nmodel:\n" + PLAYERS[request.param] + "optimizer: adam\n"
    )
    recipe = load(file).experiment.recipe
    root = prepare(recipe.data, cache=tmp_path_factory.getbasetemp() / "inside-cache").root
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        yield evaluator


@pytest.mark.parametrize("players", ["gan"], indirect=True)
def test_a_network_that_makes_images_of_noise_is_not_shown_any(players):
    for wanted in ("generator.layers.0", "discriminator.layers.0", "3"):
        with pytest.raises(UserError, match="this task's network takes none"):
            dream(players, weights_of(players), wanted)
    with pytest.raises(UserError, match="this task's network takes none"):
        top_patches(players, weights_of(players), "discriminator.layers.0")


@pytest.mark.parametrize("players", ["pix2pix"], indirect=True)
def test_of_several_networks_the_one_that_takes_images_is_looked_into(players):
    layer = next(name for name, module in players.task.model.generator.named_modules() if isinstance(module, nn.Conv2d))
    patches = top_patches(players, weights_of(players), f"generator.{layer}")
    assert patches.maps == 2
    assert patches.field is not None
