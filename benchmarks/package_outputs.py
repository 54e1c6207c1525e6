"""CLIP, image GPT and the masked autoencoder beside those of the package transformers, with copied weights.

Random weights are drawn for our network, copied into the package's, and both are given the same batch in double
precision: printed are the largest differences of the outputs, of the loss and of the loss's gradients in all weights,
and the largest output beside them. The package's keys are set to what ours compute: the exact GELU, and the same small
number in norms. Nothing is downloaded.

    pip install transformers
    python benchmarks/package_outputs.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from expflow.config.schema import Recipe
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds.text import END, PAD, START
from expflow.registry import MODELS, OPTIMIZERS, SCHEDULES, TASKS
from expflow.tasks import build_task
from expflow.tasks.keyed_noise import FIXED

os.environ["HF_HUB_OFFLINE"] = "1"

SIDE, PATCH, WIDTH, DEPTH, HEADS = 16, 4, 24, 3, 4
BATCH, TOKENS, WORDS, EMBEDDING = 6, 9, 11, 10
IMAGES = DataSpec(
    {"image": FieldSpec((3, SIDE, SIDE), "uint8"), "label": FieldSpec((), "int64")},
    ("a", "b"),
    mean=(0.5, 0.4, 0.3),
    std=(0.25, 0.2, 0.3),
)
LAYER = {
    "attention.query": "q_proj",
    "attention.key": "k_proj",
    "attention.value": "v_proj",
    "attention.output": "o_proj",
    "feed_forward.0": "mlp.fc1",
    "feed_forward.3": "mlp.fc2",
}
Renamed = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def task_of(name: str, data_spec: DataSpec, model: Mapping[str, Any], **keys: Any) -> Any:
    """A task of ours with a network of drawn weights and biases, in double precision and in eval mode."""
    torch.manual_seed(0)
    recipe = Recipe(
        task=TASKS.spec(name)(name=name, **keys),
        model=MODELS.spec(name)(name=name, **model),
        optimizer=OPTIMIZERS.spec("sgd")(name="sgd"),
        schedule=SCHEDULES.spec("constant")(name="constant"),
    )
    task: Any = build_task(recipe, data_spec).double().eval()
    for parameter in task.parameters():
        if parameter.ndim:  # norms and biases too, which begin at 1 and 0
            parameter.data += 0.1 * torch.randn_like(parameter)
    return task


def images() -> dict[str, Tensor]:
    """A batch of images."""
    generator = torch.Generator().manual_seed(1)
    shape = (BATCH, *IMAGES.image_shape)
    return {
        "image": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "valid": torch.ones(BATCH, dtype=torch.bool),
    }


def renamed(values: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights by other names: each key of ``names`` is a regular expression, all of which are replaced in order."""
    result = {}
    for name, value in values.items():
        for ours, theirs in names.items():
            name = re.sub(ours, theirs, name)
        result[name] = value
    return result


def compared(title: str, task: Any, theirs: nn.Module, rename: Renamed, run: Callable[[], tuple[Tensor, ...]]) -> None:
    """Copy the weights, run both, and print the differences.

    Args:
        title: What is compared.
        task: Ours.
        theirs: The package's network.
        rename: Our weights, or their gradients, by the package's names and in its layout.
        run: Runs both: our output, theirs, our loss, theirs.
    """
    theirs.double().eval()
    shapes = theirs.state_dict()
    given = rename({name: value.detach() for name, value in task.model.named_parameters()})
    given = {name: value.reshape(shapes[name].shape) for name, value in given.items()}
    missing, unexpected = theirs.load_state_dict(given, strict=False)
    left = set(unexpected) | set(missing) & {name for name, _ in theirs.named_parameters()}
    assert not left, f"weights that only one of the two has: {left}"
    ours_out, theirs_out, ours_loss, theirs_loss = run()
    ours_loss.backward()
    theirs_loss.backward()
    expected = {name: value.grad for name, value in theirs.named_parameters() if value.grad is not None}
    gradients = rename({name: value.grad for name, value in task.model.named_parameters()})
    worst = max((gradients[name].reshape(value.shape) - value).abs().max().item() for name, value in expected.items())
    print(
        f"{title}: {len(expected)} tensors of weights; outputs differ by {difference(ours_out, theirs_out):.1e} at most"
        f" (the largest is {theirs_out.abs().max():.2g}), the loss {theirs_loss:.4f} by"
        f" {difference(ours_loss, theirs_loss):.1e}, gradients by {worst:.1e} (the largest is"
        f" {max(value.abs().max().item() for value in expected.values()):.2g})"
    )


def difference(first: Tensor, second: Tensor) -> float:
    """The largest absolute difference."""
    return float((first - second).detach().abs().max())


CLIP_NAMES = {
    "^log_scale": "logit_scale",
    r"^image\.head": "visual_projection",
    r"^text\.projection": "text_projection",
    r"^image\.cls": "vision_model.embeddings.class_embedding",
    r"^image\.patches\.projection": "vision_model.embeddings.patch_embedding",
    r"^image\.positions\.table_tw": "vision_model.embeddings.position_embedding.weight",
    r"^image\.first": "vision_model.pre_layrnorm",
    r"^image\.norm\b": "vision_model.post_layernorm",
    r"^image\.layers": "vision_model.encoder.layers",
    r"^text\.table": "text_model.embeddings.token_embedding",
    r"^text\.positions\.table_tw": "text_model.embeddings.position_embedding.weight",
    r"^text\.norm\b": "text_model.final_layer_norm",
    r"^text\.blocks": "text_model.encoder.layers",
    r"\.norm(\d)": r".layer_norm\1",
}
"""Parts of our CLIP, as regular expressions, and what the package calls them."""


def clip() -> None:
    """The two towers of CLIP, and its loss."""
    from transformers import CLIPConfig, CLIPModel

    words = ("<pad>", "<start>", "<end>", *"abcdefgh")
    text = FieldSpec((TOKENS,), "int64", kind="text", vocabulary=words)
    spec = replace(IMAGES, fields={**IMAGES.fields, "text": text})
    tower = {"backbone": "vit", "patch": PATCH, "norm_first": True, "patch_bias": False}
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "embedding": EMBEDDING}
    texts = {"text_width": WIDTH, "text_depth": DEPTH, "text_heads": HEADS}
    task = task_of("clip", spec, {**tower, **sizes, **texts})
    common = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "hidden_act": "gelu",
        "projection_dim": EMBEDDING,
        "layer_norm_eps": 1e-6,
    }
    ids = {"bos_token_id": START + 1, "eos_token_id": END + 1, "pad_token_id": PAD + 1}
    text_config = {**common, **ids, "vocab_size": WORDS, "max_position_embeddings": TOKENS}
    vision = {**common, "image_size": SIDE, "patch_size": PATCH}
    theirs = CLIPModel(CLIPConfig(text_config=text_config, vision_config=vision, projection_dim=EMBEDDING))
    theirs.text_model.final_layer_norm.eps = task.model.text.norm.eps
    layer = {ours: name if "mlp" in name else f"self_attn.{name}" for ours, name in LAYER.items()}
    names = {**CLIP_NAMES, **layer, "o_proj": "out_proj"}
    table = "text_model.embeddings.token_embedding.weight"

    def rename(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        by_name = renamed(values, names)  # the package takes the token 2 for the end in a way of its own: all move by 1
        return {**by_name, table: by_name[table].roll(1, 0)}

    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, WORDS, (BATCH, TOKENS), generator=generator)
    for row, length in enumerate((8, 5, 3, 1, 7, 2)):
        tokens[row, length], tokens[row, length + 1 :] = END, PAD
    batch = {**images(), "text": tokens}

    def run() -> tuple[Tensor, ...]:
        x = (batch["image"] - task._mean) / task._std
        image, words_be = task.model(x, tokens)
        output = theirs(input_ids=(tokens + 1) % WORDS, pixel_values=x, return_loss=True)
        ours = torch.cat([image, words_be])
        return ours, torch.cat([output.image_embeds, output.text_embeds]), task.training_loss(batch)[0], output.loss

    compared("CLIP", task, theirs, rename, run)


def igpt() -> None:
    """Image GPT: the scores of each pixel, and their cross-entropy."""
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    palette = tuple((20 * colour, 255 - 30 * colour, 40 * (colour % 3)) for colour in range(8))
    field = FieldSpec((3, SIDE, SIDE), "uint8", palette=palette)
    task = task_of(
        "igpt",
        replace(IMAGES, fields={**IMAGES.fields, "image": field}),
        {"width": WIDTH, "depth": DEPTH, "heads": HEADS},
    )
    theirs = ImageGPTForCausalImageModeling(
        ImageGPTConfig(
            vocab_size=len(palette) + 1,
            n_positions=SIDE * SIDE,
            n_embd=WIDTH,
            n_layer=DEPTH,
            n_head=HEADS,
            activation_function="gelu",
        )
    )
    names = {
        r"^positions": "transformer.wpe.weight",
        r"^table": "transformer.wte",
        r"^norm\.": "transformer.ln_f.",
        r"^head": "lm_head",
        r"^layers\.": "transformer.h.",
        r"\.norm(\d)": r".ln_\1",
        r"attention\.output": "attn.c_proj",
        r"feed_forward\.0": "mlp.c_fc",
        r"feed_forward\.3": "mlp.c_proj",
    }

    def rename(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        by_name = renamed(values, names)
        for number in range(DEPTH):
            place = f"transformer.h.{number}."
            for kind in ("weight", "bias"):
                parts = [by_name.pop(f"{place}attention.{part}.{kind}") for part in ("query", "key", "value")]
                by_name[f"{place}attn.c_attn.{kind}"] = torch.cat(parts)
            for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):  # the package's are transposed
                by_name[f"{place}{part}.weight"] = by_name[f"{place}{part}.weight"].T
        return by_name

    batch = images()

    def run() -> tuple[Tensor, ...]:
        colours = task.colours(batch["image"])
        before = torch.cat([torch.full_like(colours[:, :1], len(palette)), colours[:, :-1]], 1)
        scores = theirs(input_ids=before).logits
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), colours.flatten())
        return task(batch["image"]), scores, task.training_loss(batch)[0], loss

    compared("image GPT", task, theirs, rename, run)


def mae() -> None:
    """The masked autoencoder: the patches it draws, and the loss of those that were taken away."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    decoder = {"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2}
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "positions": "learned"}
    task = task_of("mae", IMAGES, {"patch": PATCH, **sizes, **decoder})
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            image_size=SIDE,
            patch_size=PATCH,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=64,
            layer_norm_eps=1e-6,
            norm_pix_loss=True,
        )
    )
    names = {
        r"^cls": "vit.embeddings.cls_token",
        r"^positions\.table_tw": "vit.embeddings.position_embeddings",
        r"^patches": "vit.embeddings.patch_embeddings",
        r"^norm\.": "vit.layernorm.",
        r"^layers": "vit.layers",
        r"^head\.masked": "decoder.mask_token",
        r"^head\.positions\.table_tw": "decoder.decoder_pos_embed",
        r"^head\.embed": "decoder.decoder_embed",
        r"^head\.norm\.": "decoder.decoder_norm.",
        r"^head\.pixels": "decoder.decoder_pred",
        r"^head\.layers": "decoder.decoder_layers",
        r"\.norm1": ".layernorm_before",
        r"\.norm2": ".layernorm_after",
        **{ours: name if "mlp" in name else f"attention.{name}" for ours, name in LAYER.items()},
    }

    def rename(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        by_name = renamed(values, names)
        for kind in ("weight", "bias"):  # the package has the channels of a pixel side by side
            name = f"decoder.decoder_pred.{kind}"
            values_cp = by_name[name].reshape(3, PATCH * PATCH, -1)
            by_name[name] = values_cp.transpose(0, 1).reshape(by_name[name].shape)
        return by_name

    batch = images()

    def run() -> tuple[Tensor, ...]:
        x = (batch["image"] - task._mean) / task._std
        order, _ = task._masked(batch, FIXED)
        output = theirs(pixel_values=x, noise=order.argsort(1).double())
        drawn = theirs.unpatchify(output.logits)
        return task.model(x, order, task._kept), drawn, task._errors(batch, FIXED).mean(), output.loss

    compared("masked autoencoder", task, theirs, rename, run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    clip()
    igpt()
    mae()
