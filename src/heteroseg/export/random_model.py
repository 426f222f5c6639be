"""Networks with random weights and drawn scenes, to be timed without data and without training."""

import numpy as np
import torch
from torch import Tensor

from heteroseg.decisions.exact import Logits, decode
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.networks.heads import HierarchicalHead
from heteroseg.networks.network import Network, build_network
from heteroseg.scenes import draw_scene

MIXED = 0.3  # share of cells whose corners differ; of networks trained for 400 steps 17 to 31 %, of better ones fewer
SIGNS = 0.003  # share of the pixels of street scenes that are signs


def scenes(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Drawn street scenes (H, W, 3) uint8, the same in every run."""
    return [np.ascontiguousarray(draw_scene(np.random.default_rng(i), size).image) for i in range(count)]


def random_model(config: ModelConfig, tree: Taxonomy, size: tuple[int, int], asked: float | None = None) -> Model:
    """A network with random weights and the path rule, whose answers change from place to place as often as a trained
    network's do (a fresh one says the same everywhere, which is no work).

    Every layer is normalised on a drawn scene, so that int8 loses no more than with trained weights, the decoder's
    depthwise filters blur, as they learn to, and the logits get deviation 4. Then every class gets a random constant,
    of the deviation with which a share of MIXED of the cells is mixed; with none, all classes are as frequent. So many
    cells as `asked` says (None: as it comes) then come to each node that has a branch.
    """
    torch.manual_seed(0)
    network = build_network(config, tree)
    model = Model(config.backbone, network, tree, {}, config, "path")
    image = torch.from_numpy(scenes(1, size)[0])[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        _normalise(network, image)
        logits = network.eval()(image)
        mean, factor = logits.mean((0, 2, 3)), 4 / logits.std((0, 2, 3)).clamp(min=1e-6)
        scaled, constants = (logits - mean[:, None, None]) * factor[:, None, None], torch.randn(len(factor))
        low, high = 0.0, 64.0
        for _ in range(8):
            middle = (low + high) / 2
            mixed = mixed_cells(scaled + middle * constants[:, None, None], model)
            low, high = (middle, high) if mixed > MIXED else (low, middle)
        constants = high * constants
        if asked is not None:
            constants += _rarely(scaled + constants[:, None, None], model, asked)
        network.head.scale(factor, constants - mean * factor)
    return model


def _rarely(logits: Tensor, model: Model, asked: float) -> Tensor:
    """(C,) what is to be added to logits (1, C, h, w), so that a share `asked` of the cells comes to each branch."""
    tree, grid, plan = model.taxonomy, (logits.shape[2], logits.shape[3]), model.plan(None)
    added = torch.zeros(logits.shape[1])
    head = model.torch_network.head
    for q in head.branches.by_classifier if isinstance(head, HierarchicalHead) and head.branches else ():
        path = tree.path(tree.classifiers[q].node)
        below = [n for n in range(len(tree)) if tree.path(n)[: len(path)] == path]
        way = [tree.channel_of[n] for n in path if tree.channel_of[n] >= 0]
        low, high = -64.0, 64.0
        for _ in range(16):
            added[way] = middle = (low + high) / 2
            came = np.isin(decode(logits + added[:, None, None], grid, grid, plan)[0], below).mean()
            low, high = (middle, high) if came < asked else (low, middle)
    return added


def _normalise(network: Network, image: Tensor) -> None:
    """Blur in the decoder's depthwise filters, and statistics of this one image (1, 3, H, W) in every layer."""
    if isinstance(network.body, torch.nn.Sequential):
        for module in network.body[1].modules():
            if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
                module.weight.abs_()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all passes, of which there is one
    network.train()(image.repeat(2, 1, 1, 1))


def mixed_cells(logits: Logits, model: Model) -> float:
    """Share of cells whose four corners do not decide the same node."""
    grid = (logits.shape[2], logits.shape[3])
    at = torch.from_numpy(decode(logits, grid, grid, model.plan(None))[0])
    same = (at[:-1, :-1] == at[1:, :-1]) & (at[:-1, :-1] == at[:-1, 1:]) & (at[:-1, :-1] == at[1:, 1:])
    return 1 - float(same.float().mean())
