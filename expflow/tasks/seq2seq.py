"""One text from another (Vaswani et al. 2017, "Attention Is All You Need").

The network reads the source and, of the target, the tokens before each place (the target moved by one, behind a start
token), and is to name the next token: cross-entropy, mean over tokens that are no padding. Two accuracies are measured:
of single tokens when the true ones stand before them, and of whole texts that the network writes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.transformer import SOURCE, TARGET, Transformer, text_fields
from expflow.data.dataspec import DataSpec
from expflow.data.kinds.text import PAD, START, text_of
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each
from expflow.tasks.bleu import ORDER, bleu, bleu_counts
from expflow.tasks.generation import generated
from expflow.tasks.samples import FirstSamples, SampleTable
from expflow.tasks.seq2seq_spec import Seq2SeqSpec


class Seq2Seq(ImageTask):
    """Trains a network to write a text for another one; measures loss, accuracy of tokens and of whole texts.

    Args:
        data_spec: The texts.
        model: The network.
        loss: (scores (n, v), tokens (n,)) -> (n,).
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: Transformer,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: Seq2SeqSpec,
    ) -> None:
        super().__init__(data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._source, self._target = text_fields(data_spec)
        self._network, self._beams = (model,), spec.beams
        self._first = FirstSamples(spec.samples, SOURCE, TARGET)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss () over tokens that count, their number (), and how many are named rightly ()."""
        target = batch[TARGET]
        before = torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], 1)
        scores = at_least_single(self.model(batch[SOURCE], before))
        counts = (target != PAD) & batch["valid"][:, None]
        values = self.loss(scores.flatten(0, 1), target.flatten())
        if values.shape != (target.numel(),):
            raise UserError(f"the loss gives values of shape {tuple(values.shape)}; expected one for each token")
        tokens = counts.sum()
        loss = torch.where(counts.flatten(), values, 0).sum() / tokens.clamp(min=1)
        return loss, tokens, ((scores.argmax(2) == target) & counts).sum()

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss over tokens (), and their number ()."""
        loss, tokens, hits = self._losses(batch)
        self._epoch_means.add(tokens, loss.detach(), hits)
        return loss, tokens

    def forward(self, source_bs: Tensor) -> Tensor:
        """(b, s) tokens -> (b, t) tokens that the network writes."""
        return self.written(source_bs)

    def served_inputs(self, batch: Batch) -> Tensor:
        """(b, s) tokens, for which a model that is served writes others.

        Args:
            batch: A batch of texts.
        """
        return batch[SOURCE]

    def written(self, source_bs: Tensor) -> Tensor:
        """(b, s) tokens -> (b, t) tokens that the network writes.

        Args:
            source_bs: The sources.
        """
        return generated(self._network[0], source_bs, self._target.shape[0], self._beams)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow(batch, batch_idx)
        loss, tokens, hits = self._losses(batch)
        valid = batch["valid"]
        written = self.written(batch[SOURCE])
        whole = (written == batch[TARGET]).all(1) & valid
        n_grams = self._n_grams(written[valid], batch[TARGET][valid])
        self._epoch_means.add(tokens, loss, hits, whole.sum(), valid.sum(), n_grams)

    def _n_grams(self, written_nt: Tensor, right_nt: Tensor) -> Tensor:
        """Summed counts of :func:`~expflow.tasks.bleu.bleu_counts` over some texts."""
        counts = [[0] * (2 * ORDER + 2)]
        for written, right in zip(written_nt.tolist(), right_nt.tolist(), strict=True):
            texts = (text_of(tokens, self._target.vocabulary) for tokens in (written, right))
            counts.append(bleu_counts(*texts))
        return torch.tensor(counts, device=written_nt.device).sum(0)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss`` and ``token_accuracy``, with the true tokens before each; of a validation also ``sequence_accuracy``
        and ``bleu``."""
        measured = {"loss": sums[1] / sums[0], "token_accuracy": sums[2] / sums[0]}
        if len(sums) > 3:
            measured["sequence_accuracy"] = sums[3] / sums[4]
            measured["bleu"] = bleu(sums[5:])
        return measured

    def draw_samples(self, generator: torch.Generator) -> SampleTable | None:
        """The first texts of val, what the network writes for them, and what is right.

        Args:
            generator: Not used: nothing is random.
        """
        source, target = self._first.field(SOURCE), self._first.field(TARGET)
        if source is None or target is None:
            return None
        words, answers = self._source.vocabulary, self._target.vocabulary
        rows = [
            (text_of(read, words), text_of(wrote, answers), text_of(right, answers))
            for read, wrote, right in zip(source.tolist(), self.written(source).tolist(), target.tolist(), strict=True)
        ]
        return SampleTable((SOURCE, "written", TARGET), rows)


def build(
    spec: Seq2SeqSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Seq2Seq:
    """The task seq2seq, on texts.

    Args:
        spec: What the user chose.
        data_spec: The texts.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, the data have no texts, or the network is no transformer.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    text_fields(data_spec)
    if not isinstance(model, Transformer):
        raise UserError("task seq2seq needs model transformer, or one of your own that derives from its class")
    return Seq2Seq(data_spec, model, loss, optimizer, schedule, spec)
