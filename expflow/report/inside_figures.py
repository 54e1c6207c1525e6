"""Draws what is found inside a trained network: top patches, inversions, dreams and attention."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from expflow.report.canvas import INK, RenderedFigure, escape_mathtext, new_figure, render_figure, truncated

if TYPE_CHECKING:
    from expflow.training.evaluation.attention_maps import AttentionMaps
    from expflow.training.evaluation.dreams import Dreams
    from expflow.training.evaluation.text_attention import TextAttention
    from expflow.training.evaluation.top_patches import Patch, TopPatches

_SIDE = 3
"""Patches in a row of a feature map's tile."""
_MOST_COLUMNS = 8
"""Layers, and heads, that are drawn beside an image."""
_ATTENTION = "magma"
_FILES = {None: "top-patches", "guided": "invert", "deconvnet": "deconvnet"}
_INVERSIONS = {"guided": "their guided gradients", "deconvnet": "what the deconvnet makes of them"}
Picture = NDArray[Any]


def patches_figure(top: TopPatches, of: str) -> RenderedFigure:
    """Of each feature map a tile of the nine patches that excite it most; with inversions, these stand left of them.

    Args:
        top: The patches.
        of: Which network it is, for the title.
    """
    inverted = top.inverted_by is not None
    tiles, wide = len(top.patches), 2 if inverted else 1
    columns = max(1, min(tiles, 4 if inverted else 6))
    rows = math.ceil(tiles / columns)
    figure = new_figure(max(columns * wide * 1.3 + 0.4, 4.6), rows * 1.55 + 0.8)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells:
        axes.set_axis_off()
    for number, (axes, patches) in enumerate(zip(cells, top.patches, strict=False)):
        label = f"map {number}" if patches else f"map {number}: never above 0"
        axes.set_title(label, fontsize=8, color=INK, pad=2)
        if patches:
            _draw_tile(axes, patches, inverted=inverted)
    what = "What excites" if not inverted else "What of its pixels excites"
    title = f"{what} each feature map of {top.layer} most"
    figure.suptitle(f"{escape_mathtext(title)}\n{escape_mathtext(truncated(of, 70))}", fontsize=9.5, color=INK)
    name = f"{_FILES[top.inverted_by]}-{slug(top.layer)}"
    return render_figure(figure, name, title, _patches_caption(top), f"{title}, as small pictures.")


def _patches_caption(top: TopPatches) -> str:
    seen = "whole images" if top.whole else f"{top.field[0]}x{top.field[1]} pixels" if top.field else ""
    why = ", as far as a unit sees," if not top.whole else ""
    text = f"The nine patches of val ({top.images} images, one patch of each){why} of {seen}, the strongest first"
    if top.whole and top.field is not None:
        text += f" (a unit sees {top.field[0]}x{top.field[1]} pixels)"
    if top.inverted_by is not None:
        text += f"; left of them {_INVERSIONS[top.inverted_by]}, each scaled by itself: grey is zero"
    left = len(top.patches)
    return f"{text}; {'the first ' if left < top.maps else ''}{left} of {top.maps} maps."


def _draw_tile(axes: Axes, patches: Sequence[Patch], *, inverted: bool) -> None:
    mosaic = _mosaic([_shown(patch.picture / 255) for patch in patches])
    if inverted:
        gradients = [_shown(_centred(patch.inverted)) for patch in patches if patch.inverted is not None]
        side = _mosaic(gradients)
        mosaic = np.concatenate([side, np.ones((mosaic.shape[0], max(1, mosaic.shape[1] // 30), 3)), mosaic], 1)
    axes.imshow(mosaic, interpolation="nearest", vmin=0, vmax=1)


def _mosaic(pictures: Sequence[Picture]) -> Picture:
    """Up to nine pictures (h, w, 3) in three rows, with white lines between them."""
    height, width = pictures[0].shape[:2]
    line = max(1, round(min(height, width) / 12))
    rows = math.ceil(len(pictures) / _SIDE)
    whole = np.ones((_SIDE * (height + line) - line, _SIDE * (width + line) - line, 3))
    for at, picture in enumerate(pictures[: rows * _SIDE]):
        row, column = divmod(at, _SIDE)
        top, left = row * (height + line), column * (width + line)
        whole[top : top + height, left : left + width] = picture
    return whole


def _shown(picture_hwc: Picture) -> Picture:
    """(h, w, 3) from 0 to 1; of other numbers of channels their mean, in grey."""
    if picture_hwc.shape[2] == 3:
        return picture_hwc
    return np.repeat(picture_hwc.mean(2, keepdims=True), 3, 2)


def _centred(gradient_hwc: Picture) -> Picture:
    """A gradient from 0 to 1, zero at 0.5."""
    most = float(np.abs(gradient_hwc).max()) or 1.0
    return 0.5 + gradient_hwc / (2 * most)


def dream_figure(dreams: Dreams, of: str) -> RenderedFigure:
    """Where each dream began, above where it ended.

    Args:
        dreams: The images.
        of: Which network it is, for the title.
    """
    count = len(dreams.after)
    figure = new_figure(max(1.9 * count + 0.4, 4.6), 4.9)
    cells = figure.subplots(2, count, squeeze=False)
    for at in range(count):
        for axes, picture, value in zip(
            cells[:, at], (dreams.before[at], dreams.after[at]), dreams.gain[at], strict=True
        ):
            axes.set_axis_off()
            axes.imshow(_shown(picture / 255), interpolation="nearest", vmin=0, vmax=1)
            shown = f"{value:.1%}" if dreams.is_class else f"{value:.3g}"
            axes.set_title(shown, fontsize=8, color=INK, pad=2)
    title = f"What the network takes for {dreams.of}" if dreams.is_class else f"What {dreams.of} finds, exaggerated"
    figure.suptitle(f"{escape_mathtext(title)}\n{escape_mathtext(truncated(of, 70))}", fontsize=9.5, color=INK)
    quantity = "the probability of the class" if dreams.is_class else "the mean square of the layer's output"
    begin = "grey with a little noise" if dreams.is_class else "images of val"
    caption = f"Above {begin}, below what gradient ascent makes of it; over each picture {quantity}."
    return render_figure(figure, f"dream-{slug(dreams.of)}", title, caption, f"{title}: pictures before and after.")


def attention_figure(maps: AttentionMaps, of: str) -> RenderedFigure:
    """For each image the attention of the layers, through all of them, and of the last layer's heads.

    Args:
        maps: The attention.
        of: Which network it is, for the title.
    """
    layers, heads = maps.layers.shape[1], min(maps.heads.shape[1], _MOST_COLUMNS)
    chosen = sorted({round(at * (layers - 1) / max(1, _MOST_COLUMNS - 1)) for at in range(_MOST_COLUMNS)})
    columns = [f"layer {layer + 1}" for layer in chosen] + ["all layers"] + [f"head {h + 1}" for h in range(heads)]
    images = len(maps.pictures)
    figure = new_figure(1.05 * (len(columns) + 1) + 0.3, 1.1 * images + 0.9)
    cells = figure.subplots(images, len(columns) + 1, squeeze=False)
    for at, picture in enumerate(maps.pictures):
        tiles = [maps.layers[at, layer] for layer in chosen] + [maps.rollout[at], *maps.heads[at, :heads]]
        cells[at, 0].imshow(_shown(picture / 255), interpolation="nearest", vmin=0, vmax=1)
        for axes, tile in zip(cells[at, 1:], tiles, strict=True):
            axes.imshow(tile, cmap=_ATTENTION, interpolation="nearest", vmin=0)
    for axes, text in zip(cells[0], ["image", *columns], strict=True):
        axes.set_title(text, fontsize=8, color=INK, pad=2)
    for axes in cells.ravel():
        axes.set_axis_off()
    title = "Where the transformer looks"
    figure.suptitle(f"{title}\n{escape_mathtext(truncated(of, 70))}", fontsize=9.5, color=INK)
    return render_figure(figure, "attention", title, _attention_caption(maps, heads), f"{title}: maps beside images.")


def _attention_caption(maps: AttentionMaps, heads: int) -> str:
    whose = "Attention of the class token to each patch" if maps.from_token else "Mean attention that each patch gets"
    few = f" (the first {heads} of {maps.heads.shape[1]})" if heads < maps.heads.shape[1] else ""
    return (
        f"{whose}, the brighter the more, each map scaled by itself: the mean over the heads of a layer; through all"
        f" layers with their shortcuts (rollout); and the heads of the last layer{few}."
    )


def text_attention_figure(texts: Sequence[TextAttention], of: str) -> RenderedFigure:
    """For each text a table: what the network looked at in the source while it wrote each word.

    Args:
        texts: The attention of each.
        of: Which network it is, for the title.
    """
    widest, highest = (max(len(getattr(text, side)) for text in texts) for side in ("source", "written"))
    columns = min(2, len(texts))
    rows = -(-len(texts) // columns)
    figure = new_figure(columns * max(3.2, 0.24 * widest + 1.2), rows * max(2.2, 0.24 * highest + 1.3) + 0.6)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells[len(texts) :]:
        axes.set_axis_off()
    for axes, text in zip(cells, texts, strict=False):
        axes.imshow(text.weights, cmap=_ATTENTION, interpolation="nearest", vmin=0, vmax=1)
        in_words = max(map(len, text.source)) > 1
        labels = [escape_mathtext(word) for word in text.source], [escape_mathtext(word) for word in text.written]
        axes.set_xticks(range(len(labels[0])), labels[0], fontsize=7, rotation=90 if in_words else 0)
        axes.set_yticks(range(len(labels[1])), labels[1], fontsize=7)
    title = "What was read for each word that was written"
    figure.suptitle(f"{title}\n{escape_mathtext(truncated(of, 70))}", fontsize=9.5, color=INK)
    caption = (
        "Attention of the last layer of the decoder to the source, the mean over its heads. Each row is a word (of"
        " texts of one word a character) that the network wrote; the last column is the end of the source."
    )
    return render_figure(figure, "attention", title, caption, f"{title}: a table for each of the first texts of val.")


def slug(name: str) -> str:
    """A name as a part of a file's name.

    Args:
        name: Name of a layer or class.
    """
    return re.sub(r"[^\w.]+", "-", name, flags=re.ASCII).strip("-.") or "unnamed"
