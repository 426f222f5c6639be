"""Which images a report shows, and how they are packed into the page."""

import base64
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from heteroseg.datasets.sample import Item, spread_evenly
from heteroseg.evaluation.scores import in_taxonomy_of, predict_labelled
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model

PIXELS = 22_000_000  # of all pictures of a page together; more pictures are made smaller
WIDEST, NARROWEST = 640, 240
CLOSE_UP_BELOW = 0.02  # pictures with a smaller labelled part are cut to it
SURE = 20  # steps of confidence


@dataclass(frozen=True)
class Example:
    """One image and what the network says about it.

    `image` (H, W, 3) uint8 RGB; `truth` and `predicted` (H, W) int indices into `space.labels`, -1 unlabelled and
    outside; `nodes` (H, W) int decided nodes of the taxonomy, -1 void; `confidence` (H, W) float32 probability of what
    is predicted. `why` says what it is an example of, `acc` is the share of its labelled pixels that are right.
    """

    dataset: str
    name: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    nodes: np.ndarray
    confidence: np.ndarray
    space: LabelSpace
    why: str = "chosen evenly"
    acc: float | None = None


def choose(items: Sequence[Item], per_image: dict[str, Any], count: int) -> list[tuple[Item, str]]:
    """About `count` images and why: a third each of the worst, the best and random ones by the share of right pixels;
    then up to `count` more, so that labels that these do not show are seen too, the rarest first.

    Without scores they are spread evenly.
    """
    scored = [item for item in items if per_image.get(item.name, {}).get("acc") is not None]
    if not scored:
        annotated = [i for i in items if i.mask or len(i.boxes)] or list(items)
        return [(item, "chosen evenly") for item in spread_evenly(annotated, count)]
    ranked = sorted(scored, key=lambda item: per_image[item.name]["acc"])
    third = -(-count // 3)
    chosen: dict[str, tuple[Item, str]] = {}
    for kind, order in (("worst", ranked), ("best", ranked[::-1])):
        for rank, item in enumerate(order[:third], 1):
            chosen.setdefault(item.name, (item, f"{kind} {rank} of {len(ranked)}"))
    rest = [item for item in ranked if item.name not in chosen]
    for i in np.random.default_rng(0).permutation(len(rest))[: max(count - 2 * third, 0)]:
        chosen[rest[i].name] = (rest[i], "random")
    ious = {item.name: per_image[item.name]["iou"] for item in scored}
    in_images = Counter(label for labels in ious.values() for label in labels)
    shown = {label for name in chosen for label in ious[name]}
    for label in sorted(in_images, key=lambda label: in_images[label]):
        if label not in shown and len(chosen) < 2 * count:
            having = sorted((i for i in scored if label in ious[i.name]), key=lambda i: ious[i.name][label])
            item = having[len(having) // 2]  # neither the best nor the worst of it
            chosen.setdefault(item.name, (item, f"has {label}"))
            shown |= ious[item.name].keys()
    return list(chosen.values())


def collect_examples(
    model: Model, sources: Sequence[Source], evaluation: dict[str, Any], count: int = 9
) -> list[Example]:
    """Read and predict the chosen val images of every dataset that was evaluated."""
    result = []
    for source in sources:
        entry = evaluation["datasets"].get(source.name, {})
        space = in_taxonomy_of(model, source.space)
        per_image = entry.get("per_image", {})
        chosen = choose(source.val[: entry.get("images")], per_image, count)
        predictions = predict_labelled(model, [item for item, _ in chosen], space)
        for (item, why), (sample, true, prediction) in zip(chosen, predictions, strict=True):
            predicted, confidence = prediction.confident_label_indices(space)
            acc, nodes = per_image.get(item.name, {}).get("acc"), prediction.nodes()
            maps = (sample.image, true, predicted, nodes, confidence)
            result.append(Example(source.name, item.name, *maps, space, why, acc))
    return result


def close_up(example: Example) -> Example:
    """Cut an example to its largest labelled part where only a little is labelled (a sign), else leave it whole."""
    known = example.truth >= 0
    height, width = known.shape
    if not 0 < known.mean() < CLOSE_UP_BELOW:
        return example
    _, _, parts, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8))
    x, y, w, h, _ = parts[1 + parts[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    zoom = min(max(5 * w / width, 5 * h / height, 0.2), 1.0)
    tall, wide = round(height * zoom), round(width * zoom)
    top = min(max(y + h // 2 - tall // 2, 0), height - tall)
    left = min(max(x + w // 2 - wide // 2, 0), width - wide)
    maps = ("image", "truth", "predicted", "nodes", "confidence")
    return replace(example, **{key: getattr(example, key)[top : top + tall, left : left + wide] for key in maps})


def widest(examples: int) -> int:
    """The width in pixels at which this many pictures stay within PIXELS (taken as twice as wide as high)."""
    return int(np.clip((2 * PIXELS / max(examples, 1)) ** 0.5, NARROWEST, WIDEST))


def photo_uri(image: np.ndarray, width: int) -> str:
    """(H, W, 3) uint8 RGB as the data: address of a JPEG that is at most `width` wide."""
    tall, wide = image.shape[:2]
    if wide > width:
        image = cv2.resize(image, (width, max(round(tall * width / wide), 1)), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def pack(width: int, maps: Sequence[np.ndarray], confidence: np.ndarray | None = None) -> tuple[int, int, str]:
    """Width, height and base64 of the zlib-packed maps (H, W), at most `width` wide.

    In this order, each (height, width): the maps as uint16, little-endian, plus one (0 is none); and uint8 confidence
    in steps of 1 / SURE.
    """
    height, wide = maps[0].shape
    w = min(wide, width)
    h = max(round(height * w / wide), 1)
    rows, columns = ((np.arange(n) + 0.5) * full / n for n, full in ((h, height), (w, wide)))
    at = np.ix_(rows.astype(int), columns.astype(int))
    parts = [(m[at] + 1).astype("<u2").tobytes() for m in maps]
    if confidence is not None:
        parts.append(np.round(np.clip(confidence[at], 0, 1) * SURE).astype(np.uint8).tobytes())
    return w, h, base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()


def nodes_shown(example: Example, tree: Taxonomy) -> list[int]:
    """The nodes below the root that some true pixel is known to lie at or under."""
    covers = [example.space.labels[i].leaves for i in np.unique(example.truth[example.truth >= 0])]
    return [n for n in range(1, len(tree)) if any(leaves and leaves <= tree.leaves_of(n) for leaves in covers)]


def example_view(whole: Example, tree: Taxonomy, width: int) -> dict[str, Any]:
    """What the template shows of an example: a photo and packed maps."""
    e = close_up(whole)
    w, h, maps = pack(width, (e.truth, e.predicted, e.nodes), e.confidence)
    (height, wide), (tall, cut) = whole.truth.shape, e.truth.shape
    return vars(e) | {
        "size": f"{wide} × {height}" + (f", a close-up of {cut} × {tall} is shown" if e is not whole else ""),
        "photo": photo_uri(e.image, width),
        "width": w,
        "height": h,
        "maps": maps,
        "shown": nodes_shown(whole, tree),
    }
