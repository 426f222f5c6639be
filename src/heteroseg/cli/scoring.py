"""Commands for how good a network is: evaluate, report, calibrate, novelty, bench."""

import argparse
from pathlib import Path

import heteroseg
from heteroseg.cli.options import (
    Action,
    add_command,
    count,
    fraction,
    height_width,
    log,
    new_file,
    open_experiment,
    option,
    several,
    tell,
    with_views,
)
from heteroseg.cli.training import write_run_report
from heteroseg.errors import HeterosegError, nearest, warn


def evaluate(args: argparse.Namespace) -> None:
    splits = ("train", "val") if args.report else ("val",)
    experiment, sources = open_experiment(args.data, args.overrides, splits)
    from heteroseg.experiment.sources import overlaps
    from heteroseg.model.run_folder import read_evaluation
    from heteroseg.model.views import views_of, views_text

    for overlap in overlaps(sources):
        warn(overlap)
    model = with_views(args)
    run = read_evaluation(model.origin.parent) if model.origin and model.origin.name in ("best", "last") else {}
    how = args.limit, lambda name: log(f"evaluating {name}"), args.back_off, args.precision
    result = heteroseg.evaluate(model, sources, *how)
    result["training_warnings"] = run.get("training_warnings", [])
    if args.tta:
        result["tta"] = views_text(views_of(args.tta))
    tell("scores.txt", result, args.json)
    if args.report:
        from heteroseg.report.page import write_report
        from heteroseg.report.run import evaluation_contents

        title = f"{model.name} on {experiment.name}"
        write_report(args.report, evaluation_contents(title, model, sources, result, args.images))
        print(f"report: {args.report}")


def report(args: argparse.Namespace) -> None:
    write_run_report(args.run_folder, args.out, args.images, args.data)


def calibrate(args: argparse.Namespace) -> None:
    if args.out:
        from heteroseg.writing import require_absent, require_folder

        require_absent(args.out)
        require_folder(args.out)
    _, sources = open_experiment(args.data, args.overrides, ("val",))
    from heteroseg.evaluation import temperatures
    from heteroseg.model.model import save_model
    from heteroseg.model.promise import Promise

    model = heteroseg.load(args.model, args.device)
    result = temperatures.calibrate(model, sources, args.limit, lambda name: log(f"reading {name}"))
    tell("calibration.txt", result, args.json)
    if args.out:
        by_name = {name: entry["temperature"] for name, entry in result["classifiers"].items()}
        save_model(temperatures.calibrated(model, by_name, Promise.model_validate(result["promise"])), args.out)
        print(f"MODEL: {args.out}, a calibrated copy of {args.model}")


def novelty(args: argparse.Namespace) -> None:
    hold_out = heteroseg.load_experiment(args.data, args.overrides)[0].hold_out
    # what was ignored in training is what is looked for now
    _, sources = open_experiment(args.data, [*args.overrides, "hold_out=[]"], ("val",))
    from heteroseg.evaluation.novelty import judge_novelty

    model = heteroseg.load(args.model, args.device)
    result = judge_novelty(model, sources, hold_out, args.limit, lambda name: log(f"reading {name}"))
    tell("novelty.txt", result, args.json)


def bench(args: argparse.Namespace) -> None:
    import tempfile

    import cv2

    from heteroseg.datasets import read_image
    from heteroseg.experiment.config import presets
    from heteroseg.export.bench import bench as run
    from heteroseg.export.bench import in_runtime
    from heteroseg.export.random_model import SIGNS, random_model, scenes

    preset, size = args.preset, args.size
    if bool(args.model) == bool(preset):
        raise HeterosegError("bench measures a MODEL or a --preset; name one of the two")
    known = presets()
    if preset and preset not in known:
        raise HeterosegError(f"there is no preset {preset!r}{nearest(preset, known)}; there are {', '.join(known)}")
    if args.model:
        model = heteroseg.load(args.model)
    else:
        config = known[preset].model_copy(update={"branches": args.branch})
        model = random_model(config, heteroseg.load_taxonomy(args.taxonomy), size, SIGNS)
    model.decision = args.decision or model.decision
    args.precision = args.precision or ("int8" if preset and args.runtime == "openvino" else "fp32")
    image = cv2.resize(read_image(args.image), size[::-1], interpolation=cv2.INTER_AREA) if args.image else None
    with tempfile.TemporaryDirectory() as folder:
        model = in_runtime(model, args.runtime, args.precision, size, Path(folder))
        result = run(model, scenes(1, size)[0] if image is None else image, args.labels, args.threads, args.repeats)
    tell("bench.txt", result, args.json)


def add(commands: Action) -> None:
    scored = ("model", "--data", "--json", "--limit", "--device", "overrides")
    does = "score a model on the val images of every dataset, each in its own labels"
    p = add_command(commands, "evaluate", evaluate, does, *scored, "--images", "--tta")
    option(p, "--report", "FILE", "write a page with scores, pictures and confusions there (.html)", new_file)
    option(p, "--back-off", "P", "also score decisions that stop at the deepest node of this probability", fraction)
    option(p, "--precision", "P", "also score the deepest answers that are right at least this often", fraction)

    does = "write one HTML page about a run: scores, pictures, curves, settings"
    p = add_command(commands, "report", report, does, "--images")
    option(p, "run_folder", "RUN", "folder that `train` wrote", Path)
    option(p, "--out", "FILE", "the page (default: RUN/report.html)", new_file)
    option(p, "--data", "EXPERIMENT", "experiment YAML with the data's place, if that has changed", Path)

    does = "find on the val images a temperature for every classifier, and when answers are as precise as asked for"
    p = add_command(commands, "calibrate", calibrate, does, *scored)
    option(p, "--out", "MODEL2", "write a copy of MODEL with these temperatures there, which keeps --precision", Path)

    does = "measure on val images how well the nodes stand out that an experiment holds out of training (`hold_out`)"
    add_command(commands, "novelty", novelty, does, *scored)

    p = add_command(commands, "bench", bench, "time every stage of a prediction on this machine", "--json")
    option(p, "model", "MODEL", "MODEL or RUN folder, or an exported file", nargs="?")
    option(p, "--preset", "NAME", "instead of a MODEL: random weights (fast, fast-hgnet)")
    option(p, "--taxonomy", "NAME", "its taxonomy (default: streets-108)", default="streets-108")
    option(p, "--branch", "NODE", "give this classifier of a preset a branch", action="append", default=[])
    option(p, "--size", "HxW", "image size (default: 520x706)", height_width, default=(520, 706))
    option(p, "--image", "FILE", "time this image, scaled to the size, not a drawn scene", Path)
    does = "what runs the network (default: openvino)"
    p.add_argument("--runtime", default="openvino", choices=["torch", "openvino", "onnx"], help=does)
    p.add_argument("--precision", choices=["fp32", "bf16", "int8"], help="default: fp32; for a preset in openvino int8")
    p.add_argument("--decision", choices=["path", "marginal"], help="default: as the model says (preset: path)")
    option(p, "--labels", "SPACE", "label space of the answer (default: leaves)", default="leaves")
    option(p, "--threads", "N", "cores that it may use (default: 2)", several, default=2)
    option(p, "--repeats", "N", "how often each stage is timed (default: 50)", count, default=50)
