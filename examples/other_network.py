"""Put the hierarchical head into a network of another library, or of your own, and train it in a loop of your own.

python examples/other_network.py      # draws street scenes of two datasets, trains 60 steps, says what is right
"""

import numpy as np
import torch
from torch import Tensor, nn

import heteroseg
from heteroseg.scenes import draw_scene, to_sample

SIZE = (64, 128)


def made_elsewhere() -> nn.Sequential:
    """A network for 19 classes that knows nothing of heteroseg; it answers at a quarter of the image's size."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 2), (32, 48, 2), (48, 64, 1), (64, 64, 1)):
        layers += [nn.Conv2d(before, after, 5, stride, 2), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 19, 1))


def drawn(rng: np.random.Generator, space: heteroseg.LabelSpace) -> tuple[Tensor, Tensor]:
    """A scene of a dataset: image (3, H, W) from 0 to 1, places of labels in the label space (H, W), -1 unknown."""
    sample = to_sample(draw_scene(rng, SIZE), "scene", space, scoring=False)
    place = {label.id: i if label.leaves else -1 for i, label in enumerate(space.labels)}
    image = torch.tensor(sample.image.transpose(2, 0, 1) / 255, dtype=torch.float32)
    return image, torch.tensor(np.vectorize(place.get)(sample.mask))


def main(steps: int = 60) -> dict[str, float]:
    """The part of right pixels on a new scene of each dataset."""
    torch.manual_seed(0)
    rng, tree = np.random.default_rng(0), heteroseg.load_taxonomy("streets-108")
    spaces = [heteroseg.load_label_space(name, tree) for name in ("cityscapes", "vistas")]
    first = [0, spaces[0].targets]  # labels of all datasets have one running number, in this order
    network = heteroseg.replace_classifier(made_elsewhere(), tree)  # its last layer is found
    terms, optimiser = heteroseg.build_terms(spaces), torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(steps):
        images, labels = zip(*(drawn(rng, space) for space in spaces), strict=True)
        mask = torch.stack([torch.where(own < 0, own, own + n) for own, n in zip(labels, first, strict=True)])
        no_boxes = torch.full_like(mask, -1)
        sums, pixels = heteroseg.hierarchical_loss(network(torch.stack(images)), mask, no_boxes, terms, tree)
        optimiser.zero_grad()
        (sums.nll.sum() / pixels).backward()
        optimiser.step()
    right = {}
    for space in spaces:
        image, labels = drawn(rng, space)
        with torch.no_grad():
            logits = nn.functional.interpolate(network.eval()(image[None]), SIZE, mode="bilinear")
        right[space.name] = float((heteroseg.label_map(logits, space)[0] == labels)[labels >= 0].float().mean())
    return right


if __name__ == "__main__":
    print(main())
