"""What the loss costs in a training step: sampled pixels against full resolution against upsampling everything.

python benchmarks/loss.py [--taxonomy streets-108] [--batch 4] [--crop 256] [--repeats 7]

All ways run in turn on the same logits and labels; the ratios to the first are what to quote.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.provenance import facts
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.loss import STRONG, hierarchical_loss, nll_sums, reduce_sums
from heteroseg.supervision.targets import offsets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    tree = load_taxonomy("streets-108")
    spaces = [load_label_space(name, tree) for name in ("cityscapes", "vistas", "gtsdb")]
    terms, weights = build_terms(spaces), torch.ones(len(tree.classifiers), 2)
    torch.manual_seed(0)
    # labels in blobs, as real ones are
    coarse = torch.randint(0, offsets(spaces)[2], (args.batch, 1, args.crop // 32, args.crop // 32)).float()
    mask = F.interpolate(coarse, (args.crop, args.crop), mode="nearest")[:, 0].to(torch.int16)
    boxes = torch.full_like(mask, -1)
    small = args.crop // args.stride

    def fresh() -> torch.Tensor:
        logits = torch.randn(args.batch, tree.channels, small, small)
        return logits.contiguous(memory_format=torch.channels_last).requires_grad_()

    def sampled(cell: int) -> None:
        sums, pixels = hierarchical_loss(fresh(), mask, boxes, terms, tree, cell=cell)
        reduce_sums(sums, weights, "classifier", pixels).backward()

    def upsample_all() -> None:
        full = F.interpolate(fresh(), (args.crop, args.crop), mode="bilinear", align_corners=False)
        sums = nll_sums(full.permute(0, 2, 3, 1).flatten(0, 2), mask.flatten().long(), STRONG, terms, tree)
        reduce_sums(sums, weights, "classifier", torch.tensor(float(mask.numel()))).backward()

    ways = {"upsample every logit": upsample_all} | {f"cell {c}": (lambda c=c: sampled(c)) for c in (1, 2, 4, 8)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(args.repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    print({k: v for k, v in facts().items() if k in ("date", "commit", "machine", "torch")}, vars(args))
    first = statistics.median(times["upsample every logit"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:<22} {1000 * middle:8.1f} ms (min {1000 * min(seconds):.1f})   {first / middle:6.1f} x")


if __name__ == "__main__":
    main()
