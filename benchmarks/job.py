"""The whole job beside the part of it that takes longest: training, `predict` of a folder and a video, `predict-many`.

python benchmarks/job.py training [--preset fast] [--depth 3] [--batch 8] [--crop 256]
python benchmarks/job.py predict --model fast.xml [--overlay] [--many]     # any MODEL or exported file

training: images a second of whole steps, reading and log included, and of the network alone, forward and backward on
the same crops; with 108 classes and with 2,000. predict: milliseconds an image of each stage alone, and of the whole.
Everything is done in turn, and medians over the rounds are told.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from heteroseg import load  # which sets how threads wait, before torch comes
from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_ids, write_image
from heteroseg.experiment.config import Experiment, ModelConfig, presets
from heteroseg.export.random_model import scenes
from heteroseg.files import write_yaml
from heteroseg.inference.files import predict_files
from heteroseg.inference.video import Video, write_video
from heteroseg.labels.space import LabelSpace
from heteroseg.model.answer_files import encode_ids, outputs_of, told_of, write_answer
from heteroseg.model.model import Model
from heteroseg.model.pictures import colorise, overlay
from heteroseg.provenance import facts
from heteroseg.training.batches import AHEAD, Batch, batches, training_loader
from heteroseg.training.processes import launch
from heteroseg.training.run import Run
from heteroseg.writing import write_bytes

CLASSES, FRAME, IMAGES, REST = (108, 2000), (520, 706), 16, 2.0


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def begun(root: Path, classes: int, args: argparse.Namespace) -> tuple[Run, Iterator[Batch]]:
    """A run on drawn scenes whose masks are blocks of any of the classes, and its batches."""
    from growth import grown

    tree, rng = grown(classes, args.depth), np.random.default_rng(0)
    labels = [{"id": i, "name": tree.names[leaf], "nodes": tree.names[leaf]} for i, leaf in enumerate(tree.leaves)]
    write_yaml(root / "tree.yaml", tree.to_file())
    write_yaml(root / "space.yaml", {"name": "s", "taxonomy": "tree.yaml", "labels": labels})
    for i, image in enumerate(scenes(IMAGES, FRAME)):
        write_image(root / "images" / "train" / f"{i}.jpg", image)
        blocks = rng.integers(0, classes, (-(-FRAME[0] // 32), -(-FRAME[1] // 32))).repeat(32, 0).repeat(32, 1)
        write_ids(root / "masks" / "train" / f"{i}.png", blocks[: FRAME[0], : FRAME[1]], 16)
    options = {"images": "images/{split}/{name}.jpg", "masks": "masks/{split}/{name}.png"}
    data = {"root": ".", "reader": "folder", "label_space": "space.yaml", "val": None, "options": options}
    train = {"steps": 10**6, "batch": args.batch, "crop": (args.crop, args.crop), "workers": args.workers}
    experiment = Experiment.model_validate(
        {"name": "job", "taxonomy": "tree.yaml", "datasets": {"drawn": data}, "train": train}
        | {"model": presets()[args.preset] if args.preset else ModelConfig(pretrained=False)}
    )
    run = Run(experiment, root, root / "run", launch(experiment.train))
    run.training_mode()
    return run, batches(training_loader(experiment, run.sources))


def network_alone(run: Run, crops: Sequence[Batch]) -> None:
    for batch in crops:
        run.fabric.backward(run.network(batch.images.contiguous(memory_format=run.objective.layout)).sum())
        run.optimiser.zero_grad()


def training(root: Path, args: argparse.Namespace) -> None:
    runs = {classes: begun(root / str(classes), classes, args) for classes in CLASSES}
    steps: dict[int, list[float]] = {classes: [] for classes in CLASSES}
    bare: dict[int, list[float]] = {classes: [] for classes in CLASSES}
    for _ in range(args.rounds + 1):  # the first warms up
        for classes, (run, loader) in runs.items():
            for _ in range(AHEAD):  # that stood ready
                run.train_step(next(loader))
            taken = seconds(lambda: [run.train_step(next(loader)) for _ in range(args.steps)])  # noqa: B023
            steps[classes].append(taken / args.steps)
            crops = [next(loader) for _ in range(args.steps)]
            time.sleep(REST)  # until workers have nothing to do
            bare[classes].append(seconds(partial(network_alone, run, crops)) / args.steps)
    print(f"{'classes':>7} {'step, ms':>9} {'network, ms':>12} {'images/s':>9} {'of network':>11}")
    for classes in CLASSES:
        step, network = median(steps[classes][1:]), median(bare[classes][1:])
        print(
            f"{classes:>7} {1e3 * step:>9.0f} {1e3 * network:>12.0f} {args.batch / step:>9.1f} {network / step:>10.0%}"
        )
    few, many = (median(steps[classes][1:]) for classes in CLASSES)
    print(f"a step with {CLASSES[1]} classes takes {many / few - 1:+.0%}")


def told(kind: str, rounds: Sequence[dict[str, float]], images: int) -> None:
    """Print the median of each stage an image, and how near the whole, the last, is to the slowest before it."""
    medians = {name: median(times[name] for times in rounds) for name in rounds[0]}
    *stages, whole = medians.values()
    shown = ", ".join(f"{name} {1e3 * value / images:.1f}" for name, value in medians.items())
    print(f"{kind}: {shown} ms; the slowest stage alone takes {max(stages) / whole:.0%} of the whole", flush=True)


def folder(model: Model, space: LabelSpace, images: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of each stage, and of all, for a folder of images."""
    files = sorted(images.iterdir())
    with tempfile.TemporaryDirectory() as name:
        out, pixels, labels = Path(name), list[np.ndarray](), list[np.ndarray]()

        def write() -> None:
            for file, image, answer in zip(files, pixels, labels, strict=True):
                write_answer(outputs_of(out / "alone" / file.stem, args.overlay), image, answer, space, {})

        return {
            "read": seconds(lambda: [(told_of(file), pixels.append(read_image(file))) for file in files]),
            "network and decode": seconds(
                lambda: labels.extend(model.predict(image).label_indices(space) for image in pixels)
            ),
            "write": seconds(write),
            "whole": seconds(lambda: predict_files(model, [images], out / "whole", space, args.overlay)),
        }


def video(model: Model, space: LabelSpace, file: Path, args: argparse.Namespace) -> dict[str, float]:
    """The same for a video."""
    with tempfile.TemporaryDirectory() as name:
        out, frames, labels = Path(name), list[np.ndarray](), list[np.ndarray]()

        def write() -> None:
            with write_video(out / "alone.webm", FRAME, 25) as paint:
                for i, (frame, answer) in enumerate(zip(frames, labels, strict=True)):
                    write_bytes(out / "alone" / f"{i:06d}.png", encode_ids(answer, space))
                    if args.overlay:
                        paint(overlay(frame, colorise(answer, space)))

        return {
            "read": seconds(lambda: frames.extend(Video(file))),
            "network and decode": seconds(
                lambda: labels.extend(model.predict(frame).label_indices(space) for frame in frames)
            ),
            "write": seconds(write),
            "whole": seconds(lambda: predict_files(model, [file], out / "whole", space, args.overlay)),
        }


def predict(root: Path, args: argparse.Namespace) -> None:
    model = load(args.model)
    space, images, film = model.space("leaves"), root / "images", root / "film.webm"
    with write_video(film, FRAME, 25) as paint:
        for i, image in enumerate(scenes(IMAGES, FRAME) * (args.images // IMAGES)):
            write_image(images / f"{i:04d}.jpg", image)
            paint(image)
    count = args.images // IMAGES * IMAGES
    rounds = [(folder(model, space, images, args), video(model, space, film, args)) for _ in range(args.rounds + 1)]
    for kind, times in zip(("a folder", "a video"), zip(*rounds[1:], strict=True), strict=True):
        told(kind, times, count)
    if args.many:
        from heteroseg.inference.collection import predict_collection

        result = predict_collection(str(args.model), str(images), str(root / "many"))
        print(f"predict-many, Ray's start included: {1e3 * result['seconds'] / count:.1f} ms an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["training", "predict"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", help="of networks; the default network where none is named")
    parser.add_argument("--depth", type=int, default=2, help="of the generated taxonomies")
    parser.add_argument("--steps", type=int, default=8, help="in a round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--images", type=int, default=64, help="in the folder, and in the video")
    parser.add_argument("--overlay", action="store_true")
    parser.add_argument("--many", action="store_true", help="predict-many, too")
    args = parser.parse_args()
    print({k: v for k, v in facts().items() if k in ("date", "commit", "machine", "torch")}, vars(args))
    with tempfile.TemporaryDirectory() as root:
        (training if args.job == "training" else predict)(Path(root), args)


if __name__ == "__main__":
    main()
