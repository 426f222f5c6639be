"""The loss of a batch, the same for one process and for many."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, nearest
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import Source
from heteroseg.model.model import Model
from heteroseg.networks.heads import fused_head
from heteroseg.networks.network import Network
from heteroseg.networks.queries import Queries
from heteroseg.supervision.few import Unmade, asked_by
from heteroseg.supervision.label_terms import LabelTerms, build_terms, classifier_weights
from heteroseg.supervision.loss import Sums, hierarchical_loss, reduce_sums
from heteroseg.supervision.matching import matching_loss
from heteroseg.training.batches import Batch
from heteroseg.training.teaching import Teacher


def label_weights(sources: Sequence[Source], weights: dict[str, float]) -> Tensor | None:
    """(labels,) weight of each running label number from DATASET/LABEL entries; None where there are none."""
    if not weights:
        return None
    names = []
    for s in sources:
        names += [f"{s.name}/{label.name}" for label in s.space.labels]
        names += [f"{s.name}/(around boxes)"] * (s.space.targets - len(s.space.labels))
    for name in weights:
        if name not in names:
            raise HeterosegError(f"loss.class_weights: there is no {name!r}{nearest(name, names)}; write DATASET/LABEL")
    return torch.tensor([weights.get(name, 1.0) for name in names])


class Objective:
    """The loss of a batch, the same for one process and for many."""

    def __init__(
        self,
        experiment: Experiment,
        sources: Sequence[Source],
        fabric: Fabric,
        layout: torch.memory_format,
        teacher: Model | None = None,
    ):
        self.config, self.seed = experiment.loss, experiment.train.seed
        self.teacher_weight = experiment.train.teacher_weight
        self.fabric, self.layout = fabric, layout
        self.tree = sources[0].space.taxonomy
        self.terms: LabelTerms = fabric.to_device(build_terms([s.space for s in sources]))
        self.asked = asked_by(self.terms, self.tree)
        weights = classifier_weights(self.tree, experiment.loss.weights, experiment.loss.box_weights)
        self.weights: Tensor = fabric.to_device(weights)
        self.options = self.config.model_dump(include={"cell", "gate", "balance"})
        self.teacher = Teacher(teacher, [s.space for s in sources], fabric) if teacher else None
        self.options["label_weights"] = fabric.to_device(label_weights(sources, self.config.class_weights))

    def _logits(self, network: nn.Module, batch: Batch) -> Tensor | Unmade:
        """The logits, or what would make them where labels ask few of them; a teacher looks at all."""
        images = batch.images.contiguous(memory_format=self.layout)
        inner = next((m for m in network.modules() if isinstance(m, Network)), None)
        last = fused_head(inner.body) if inner and self.teacher is None else None
        if last is None or 2 * self.tree.classifiers[0].stop > self.tree.channels:  # then most are asked
            return network(images)  # type: ignore[no-any-return]
        assert last.bias is not None
        return Unmade(network(images, features=True), last.weight.flatten(1), last.bias, self.asked)

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, Sums, Tensor | None]:
        """The loss, its sums, and of it the part of the teacher, before its weight."""
        fabric = self.fabric
        seed = self.seed * 1_000_003 + step * 1009 + fabric.global_rank
        try:
            logits = self._logits(network, batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            size = "x".join(map(str, batch.images.shape[2:]))
            told = f"found {len(batch.images)} of {size} in a process, which leave one pixel at the coarsest stride"
            fault = f"train.batch: expected images that norms can average over, {told}; raise train.batch or train.crop"
            raise HeterosegError(fault) from None
        options = self.options | {"mixtures": batch.mixtures, "generator": torch.Generator().manual_seed(seed)}
        sums, pixels = hierarchical_loss(logits, batch.mask, batch.boxes, self.terms, self.tree, **options)
        if fabric.world_size > 1:
            sums = Sums(sums.nll, self._mean(sums.weight.detach()))
        loss = reduce_sums(sums, self.weights, self.config.normalise, self._mean(pixels))
        queries = next((m for m in network.modules() if isinstance(m, Queries)), None)
        if queries and queries.seen and self.config.matching:
            where = self.config.cell, torch.Generator().manual_seed(seed)
            paired, count, empty = matching_loss(*queries.seen, batch.mask, self.terms, self.tree, *where)
            loss = loss + self.config.matching * (paired / self._mean(count).clamp(min=1e-6) + empty)
        if queries:
            queries.seen = None  # it holds the graph, and a network that has one cannot be copied
        if self.teacher is None:
            return loss, sums, None
        assert isinstance(logits, Tensor)
        total, count = self.teacher(logits, batch, self.config.cell, torch.Generator().manual_seed(seed))
        count = self._mean(count)
        return loss + self.teacher_weight * total / count, sums, total / count

    def _mean(self, count: Tensor) -> Tensor:
        """The mean of a denominator over all processes, by which each divides, as they average their gradients."""
        return self.fabric.all_reduce(count, reduce_op="mean") if self.fabric.world_size > 1 else count  # type: ignore[return-value]
