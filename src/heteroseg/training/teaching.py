"""A trained network that teaches a run where labels are silent."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.networks.network import Network
from heteroseg.supervision.loss import sample_points
from heteroseg.supervision.teacher import Lesson, build_lesson, log_leaves, teacher_sum
from heteroseg.training.batches import Batch
from heteroseg.training.optimiser import memory_layout


class Teacher:
    """A MODEL as it answers, without gradient; its tree, size of cells and scaling of pixels may be others."""

    def __init__(self, model: Model, spaces: Sequence[LabelSpace], fabric: Fabric):
        self.digest, self.trees, self.fabric = model.digest, (spaces[0].taxonomy, model.taxonomy), fabric
        network = model.torch_network.eval().requires_grad_(False).to(fabric.device)
        self.layout = memory_layout(network, fabric.device)
        self.network: Network = network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.lesson: Lesson = fabric.to_device(build_lesson(spaces, model.taxonomy))

    def __call__(self, logits: Tensor, batch: Batch, cell: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What it adds to the loss of a batch, and the number of sampled pixels that this is the sum of."""
        size, lesson = (batch.images.shape[2], batch.images.shape[3]), self.lesson
        points = sample_points(torch.ones_like(batch.mask, dtype=torch.bool), cell, generator)
        with torch.no_grad(), self.fabric.autocast():
            answers = self.network(batch.images.contiguous(memory_format=self.layout)).float()
        covered = self.network.covers(*size)
        log_t = log_leaves(answers, points, covered, self.trees[1], lesson.teacher_paths).exp() @ lesson.teacher_atoms
        log_t = log_t.clamp(min=torch.finfo(log_t.dtype).tiny).log()
        log_s = log_leaves(logits, points, size, self.trees[0], lesson.paths)
        total = teacher_sum(log_s, log_t, points, batch.mask, batch.boxes, batch.mixtures, lesson)
        return total, torch.tensor(float(len(points[0])), device=logits.device)
