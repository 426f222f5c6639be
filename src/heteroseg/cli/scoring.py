"""Commands for how good a network is: evaluate, report, calibrate, novelty, bench."""

import argparse
from pathlib import Path

from heteroseg.cli.options import (
    Action,
    add_command,
    count,
    file_option,
    fraction,
    log,
    open_experiment,
    size,
    write_run_report,
)
from heteroseg.errors import HeterosegError


def evaluate(args: argparse.Namespace) -> int:
    scores, page = file_option("--json", args.json), file_option("--report", args.report)
    experiment, sources = open_experiment(args.data, args.overrides, ("train", "val") if page else ("val",))
    from heteroseg.evaluation.scores import evaluate as run
    from heteroseg.evaluation.table import score_table
    from heteroseg.files import write_json
    from heteroseg.model.model import load

    model = load(args.model, args.device)
    result = run(model, sources, args.limit, lambda name: log(f"evaluating {name}"), back_off=args.back_off)
    print(score_table(result))
    if scores:
        write_json(scores, result)
    if page:
        from heteroseg.report import evaluation_contents, write_report

        title = f"{model.name} on {experiment.name}"
        write_report(page, evaluation_contents(title, model, sources, result, args.images))
        print(f"report: {page}")
    return 0


def report(args: argparse.Namespace) -> int:
    run = Path(args.run_folder)
    out = file_option("--out", args.out) or run / "report.html"
    write_run_report(run, out, args.images, Path(args.data) if args.data else None)
    return 0


def calibrate(args: argparse.Namespace) -> int:
    scores = file_option("--json", args.json)
    if args.out and Path(args.out).exists():
        raise HeterosegError(f"{args.out}: is there already; remove it or choose another --out")
    _, sources = open_experiment(args.data, args.overrides, ("val",))
    from heteroseg.evaluation.temperatures import calibrate as run
    from heteroseg.evaluation.temperatures import calibrated, calibration_table
    from heteroseg.files import write_json
    from heteroseg.model.model import load, save_model

    model = load(args.model, args.device)
    result = run(model, sources, args.limit, lambda name: log(f"reading {name}"))
    print(calibration_table(result))
    if scores:
        write_json(scores, result)
    if args.out:
        save_model(calibrated(model, {n: e["temperature"] for n, e in result["classifiers"].items()}), Path(args.out))
        print(f"MODEL: {args.out}, a calibrated copy of {args.model}")
    return 0


def novelty(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    scores = file_option("--json", args.json)
    hold_out = load_experiment(args.data, args.overrides)[0].hold_out
    # what was ignored in training is what is looked for now
    _, sources = open_experiment(args.data, [*args.overrides, "hold_out=[]"], ("val",))
    from heteroseg.evaluation.novelty import judge_novelty, novelty_table
    from heteroseg.files import write_json
    from heteroseg.model.model import load

    model = load(args.model, args.device)
    result = judge_novelty(model, sources, hold_out, args.limit, lambda name: log(f"reading {name}"))
    print(novelty_table(result))
    if scores:
        write_json(scores, result)
    return 0


def bench(args: argparse.Namespace) -> int:
    import tempfile

    from heteroseg.export.bench import Settings, in_runtime, table
    from heteroseg.export.bench import bench as run
    from heteroseg.export.random_model import preset_config, random_model, scenes
    from heteroseg.files import write_json
    from heteroseg.labels.taxonomy import load_taxonomy
    from heteroseg.model.model import load

    if bool(args.model) == bool(args.preset):
        raise HeterosegError("bench measures a MODEL or a --preset; name one of the two")
    settings = Settings(args.size, args.threads, args.repeats, args.batch, image=args.image)
    args.precision = args.precision or ("int8" if args.preset and args.runtime == "openvino" else "fp32")
    if args.model:
        model = load(args.model)
    else:
        model = random_model(preset_config(args.preset), load_taxonomy(args.taxonomy), args.size)
    if args.decision:
        model.decision = args.decision
    with tempfile.TemporaryDirectory() as folder:
        images = scenes(16, args.size) if args.precision == "int8" and args.runtime != "torch" else []
        model = in_runtime(model, args.runtime, args.precision, images, args.threads, Path(folder))
        result = run(model, args.labels, settings)
    print(table(result))
    if args.json:
        write_json(args.json, result)
    return 0


def add(commands: Action) -> None:
    scored = ("model", "--data", "--json", "--limit", "--device", "overrides")
    does = "score a model on the val images of every dataset, each in its own labels"
    p = add_command(commands, "evaluate", evaluate, does, *scored, "--images")
    p.add_argument("--report", metavar="FILE", help="write a page with scores, pictures and confusions there (.html)")
    stop = "also score decisions that stop at the deepest node of probability P or more"
    p.add_argument("--back-off", type=fraction, metavar="P", help=stop)

    does = "write one HTML page about a run: scores, pictures, curves, settings"
    p = add_command(commands, "report", report, does, "--images")
    p.add_argument("run_folder", metavar="RUN", help="folder that `train` wrote")
    p.add_argument("--out", metavar="FILE", help="the page (default: RUN/report.html)")
    p.add_argument("--data", metavar="EXPERIMENT", help="experiment YAML with the data's place, if that has changed")

    does = "find a temperature for every classifier on the val images"
    p = add_command(commands, "calibrate", calibrate, does, *scored)
    p.add_argument("--out", metavar="MODEL2", help="write a copy of MODEL with these temperatures there")

    does = "measure on val images how well the nodes stand out that an experiment holds out of training (`hold_out`)"
    add_command(commands, "novelty", novelty, does, *scored)

    p = add_command(commands, "bench", bench, "time every stage of a prediction on this machine", "--json")
    p.add_argument("model", nargs="?", metavar="MODEL", help="MODEL or RUN folder, or an exported file")
    p.add_argument("--preset", metavar="NAME", help="instead of a MODEL: random weights (fast, fast-hgnet)")
    p.add_argument("--taxonomy", default="streets-108", metavar="NAME", help="its taxonomy (default: streets-108)")
    p.add_argument("--size", type=size, default=(520, 706), metavar="HxW", help="image size (default: 520x706)")
    p.add_argument("--image", type=Path, metavar="FILE", help="time this image, scaled to the size, not a drawn scene")
    p.add_argument("--runtime", default="openvino", choices=["torch", "openvino", "onnx"])
    p.add_argument("--precision", choices=["fp32", "bf16", "int8"], help="default: fp32; for a preset in openvino int8")
    p.add_argument("--decision", choices=["path", "marginal"], help="default: as the model says (preset: path)")
    p.add_argument("--labels", default="leaves", metavar="SPACE", help="label space of the answer (default: leaves)")
    p.add_argument("--threads", type=count, default=2, metavar="N")
    p.add_argument("--repeats", type=count, default=50, metavar="N")
    p.add_argument("--batch", type=count, default=1, metavar="N", help="also time the network on batches of N")
