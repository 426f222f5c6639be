"""The command line: parse, call, print. Bad use exits with 2 and one sentence for each fault, never a traceback.

Everything heavy is imported by the command that needs it, so `--help` answers at once.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from heteroseg.errors import HeterosegError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def taxonomy_check(args: argparse.Namespace) -> int:
    from heteroseg.inspection import check_spec_file

    faults: list[str] = []
    for path in args.files:
        try:
            print(check_spec_file(path))
        except HeterosegError as error:
            faults.extend(error.faults)
    if faults:
        raise HeterosegError(*faults)
    return 0


def taxonomy_show(args: argparse.Namespace) -> int:
    from heteroseg.inspection import show_spec_file

    print(show_spec_file(args.file))
    return 0


def taxonomy_import(args: argparse.Namespace) -> int:
    from heteroseg.concepttables import import_file
    from heteroseg.inspection import check_spec_file

    for path in import_file(args.file, args.out, args.name, args.id, args.table, args.flat):
        print(check_spec_file(str(path)))
    return 0


def taxonomy_suggest(args: argparse.Namespace) -> int:
    from heteroseg.drafting import is_shipped
    from heteroseg.labellists import read_label_list
    from heteroseg.suggestion import collect, suggest

    labels, source, evidence = read_label_list(args.labels, args.id, args.table), Path(args.labels).name, None
    if args.model:
        from heteroseg.model import load

        if args.taxonomy or not (args.reader and args.root):
            raise HeterosegError("--model goes with --reader and --root, and has a taxonomy of its own; see --help")
        model = load(args.model, args.device)
        options = dict(_pair(option) for option in args.option)
        evidence = collect(model, labels, args.reader, Path(args.root), args.split, options, args.images)
        tree = model.taxonomy
        taxonomy = tree.name if is_shipped(tree) else str(Path(args.model).resolve() / "taxonomy.yaml")
        source += f" and {evidence.images} images of {Path(args.root).name}/{args.split}"
    elif args.taxonomy:
        from heteroseg.taxonomy import load_taxonomy

        tree, taxonomy = load_taxonomy(args.taxonomy), args.taxonomy
        taxonomy = str(Path(taxonomy).resolve()) if taxonomy.endswith((".yaml", ".yml")) else taxonomy
    else:
        raise HeterosegError("expected --taxonomy or --model, found neither; see heteroseg taxonomy suggest --help")
    print(suggest(labels, tree, evidence, Path(args.out), taxonomy, source))
    print(f"draft: {args.out}")
    return 0


def data_check(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment
    from heteroseg.inspection import check_data

    check_data(*load_experiment(args.experiment, args.overrides), print)
    return 0


def train(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.inspection import score_table
    from heteroseg.training import train as run

    result = run(experiment, folder, Path(args.out), args.resume)
    if result is not None:
        print(score_table(result))
        print(f"run: {args.out} (MODEL: {args.out}/best and {args.out}/last)")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    if args.json and Path(args.json).is_dir():
        raise HeterosegError(f"--json {args.json}: expected a file to write, found a folder; name a file in it")
    experiment, folder = load_experiment(args.data, args.overrides)
    from heteroseg.data import open_sources
    from heteroseg.evaluation import evaluate as run
    from heteroseg.files import write_json
    from heteroseg.inspection import score_table
    from heteroseg.model import load

    model = load(args.model, args.device)
    sources = open_sources(experiment, folder, splits=("val",))
    result = run(
        model, sources, args.limit, lambda name: print(f"evaluating {name}", file=sys.stderr), back_off=args.back_off
    )
    print(score_table(result))
    if args.json:
        write_json(args.json, result)
    return 0


def predict(args: argparse.Namespace) -> int:
    from heteroseg.inference import back_off_space, list_jobs, predict_files

    out = Path(args.out)
    if args.back_off is not None and args.labels:
        raise HeterosegError("--back-off answers with nodes of the tree, so it does not go with --labels; drop one")
    list_jobs(args.inputs, out)  # wrong inputs are told before the network is loaded
    from heteroseg.model import load

    model = load(args.model, args.device)
    backing = args.back_off is not None
    space = back_off_space(model.taxonomy, args.back_off) if backing else model.space(args.labels or "leaves")
    count = predict_files(
        model,
        args.inputs,
        out,
        space,
        args.overlay,
        lambda job, done: print(f"{job.source}: {'kept' if done else job.target}", file=sys.stderr),
        args.back_off,
    )
    print(f"{count} input{'s' * (count != 1)} in {out}, ids of label space {space.name!r}")
    return 0


def compare(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.compare import compare as run
    from heteroseg.compare import markdown
    from heteroseg.ways import WAYS

    ways = args.ways.split(",") if args.ways else [way for way in WAYS if way != "unseen"]
    table = run(experiment, folder, Path(args.out), ways, range(args.seeds), lambda line: print(line, file=sys.stderr))
    print(markdown(table))
    print(f"table: {args.out}/table.md, .csv, .json, .png")
    return 0


def export(args: argparse.Namespace) -> int:
    from heteroseg.export import calibration_images, compare
    from heteroseg.export import export as run
    from heteroseg.model import load

    out = Path(args.out)
    if out.exists():
        raise HeterosegError(f"{out}: is there already; remove it or choose another --out")
    model = load(args.model)
    images = calibration_images(args.calibrate, args.images) if args.precision == "int8" and args.calibrate else []
    run(model, out, args.format, args.precision, images)
    print(f"{out}: {args.format}, {args.precision}; heteroseg predict {out} IMAGE --out DIR runs it")
    if args.calibrate and args.calibrate.endswith((".yaml", ".yml")):
        print(compare(model, load(out), args.calibrate, args.limit))
    return 0


def bench(args: argparse.Namespace) -> int:
    import tempfile

    from heteroseg.bench import Settings, in_runtime, random_model, scenes, table
    from heteroseg.bench import bench as run
    from heteroseg.files import write_json
    from heteroseg.model import load

    if bool(args.model) == bool(args.preset):
        raise HeterosegError("bench measures a MODEL or a --preset; name one of the two")
    settings = Settings(args.size, args.threads, args.repeats, args.batch)
    precision = args.precision or ("int8" if args.preset and args.runtime == "openvino" else "fp32")
    model = load(args.model) if args.model else random_model(args.preset, args.taxonomy, args.size)
    if args.decision:
        model.decision = args.decision
    with tempfile.TemporaryDirectory() as folder:
        images = scenes(16, args.size) if precision == "int8" and args.runtime != "torch" else []
        model = in_runtime(model, args.runtime, precision, images, args.threads, Path(folder))
        result = run(model, args.labels, settings)
    print(table(result))
    if args.json:
        write_json(args.json, result)
    return 0


def masks_draw(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.boxmasks import agreement, agreement_table, write_box_masks
    from heteroseg.data import open_sources, source_named

    source = source_named(open_sources(experiment, folder), args.dataset)
    write_box_masks(source, Path(args.out), print)
    if args.compare:
        print(agreement_table(agreement([*source.train, *source.val], source.space)))
    return 0


def calibrate(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.data, args.overrides)
    from heteroseg.data import open_sources
    from heteroseg.files import write_json
    from heteroseg.model import load, save_model
    from heteroseg.reliability import calibrate as run
    from heteroseg.reliability import calibrated, calibration_table

    if args.out and Path(args.out).exists():
        raise HeterosegError(f"{args.out}: is there already; remove it or choose another --out")
    model = load(args.model, args.device)
    sources = open_sources(experiment, folder, splits=("val",))
    result = run(model, sources, args.limit, lambda name: print(f"reading {name}", file=sys.stderr))
    print(calibration_table(result))
    if args.json:
        write_json(args.json, result)
    if args.out:
        save_model(calibrated(model, {n: e["temperature"] for n, e in result["classifiers"].items()}), Path(args.out))
        print(f"MODEL: {args.out}, a calibrated copy of {args.model}")
    return 0


def relabel(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.data, args.overrides)
    from heteroseg.data import open_sources, source_named
    from heteroseg.model import load
    from heteroseg.relabelling import experiment_part
    from heteroseg.relabelling import relabel as run

    sources, out = open_sources(experiment, folder), Path(args.out)
    source = source_named(sources, args.dataset)
    model = load(args.model, args.device)
    curve = run(model, sources, args.dataset, model.space(args.labels), args.confidence, out, args.truth, print)
    if curve is not None:
        print(curve.table())
    print(f"{out}: to train on it, add to datasets of an experiment:\n{experiment_part(source, out)}")
    return 0


def blobs_find(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.blobs import find_blobs
    from heteroseg.data import open_sources
    from heteroseg.model import load

    sources = open_sources(experiment, folder)
    model = load(args.model, args.device)
    find_blobs(model, sources, args.dataset, args.label, model.space(args.labels), Path(args.out), args.least, print)
    return 0


def blobs_apply(args: argparse.Namespace) -> int:
    from heteroseg.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.blobs import apply_blobs
    from heteroseg.data import open_sources, source_named
    from heteroseg.relabelling import experiment_part

    sources, out = open_sources(experiment, folder), Path(args.out)
    dataset = apply_blobs(sources, Path(args.blobs), out, print)
    part = experiment_part(source_named(sources, dataset), out)
    print(f"{out}: to train on it, add to datasets of an experiment:\n{part}")
    return 0


def demo(args: argparse.Namespace) -> int:
    from heteroseg.demo import run_demo

    run_demo(Path(args.out), args.overrides, print)
    return 0


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="set a key of the experiment, as train.steps=100"
    )


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda, cuda:1, mps (default: cpu)")


def _back_off(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--back-off", type=_fraction, metavar="P", help=what)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise HeterosegError(f"--option {text}: expected key=value")
    return key, value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 520x706, found {text!r}")
    return int(height), int(width)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from heteroseg import __version__

    parser = Parser("heteroseg", description="One segmentation network trained on many datasets with different labels.")
    parser.add_argument("--version", action="version", version=f"heteroseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    taxonomy = commands.add_parser("taxonomy", help="check or show a taxonomy or a label space")
    actions = taxonomy.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("check", help="find every fault of taxonomy and label space files")
    p.add_argument("files", nargs="+", metavar="FILE", help="a YAML file, or the name of a shipped one")
    p.set_defaults(run=taxonomy_check)
    p = actions.add_parser("show", help="print a tree with its classifiers, or a label space with its nodes")
    p.add_argument("file", metavar="FILE", help="a YAML file, or the name of a shipped one")
    p.set_defaults(run=taxonomy_show)

    p = actions.add_parser("import", help="turn published lists of labels and tables of concepts into YAML")
    p.add_argument("file", metavar="FILE", help="labels.py, config.json, .csv, label_colors.txt, a table of concepts")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the taxonomy and label space files")
    p.add_argument("--name", help="name of the taxonomy or label space (default: from FILE)")
    p.add_argument("--id", default="id", metavar="FIELD", help="field with the ids, such as trainId (default: id)")
    p.add_argument("--table", metavar="NAME", help="which list of a JSON file that holds several")
    p.add_argument("--flat", action="store_true", help="one classifier for all instead of a tree by groups")
    p.set_defaults(run=taxonomy_import)

    p = actions.add_parser("suggest", help="propose where a dataset's labels belong, as a label space to edit")
    p.add_argument("labels", metavar="LABELS", help="a list of labels, as for import")
    p.add_argument("--out", required=True, metavar="FILE", help="label space YAML to write")
    p.add_argument("--taxonomy", metavar="TREE", help="compare names with this taxonomy")
    p.add_argument("--model", metavar="MODEL", help="also look what this network sees under each label's pixels")
    p.add_argument("--reader", help="reader of the dataset's images and masks, for --model")
    p.add_argument("--root", metavar="DIR", help="folder of the dataset, for --model")
    p.add_argument("--split", default="val", help="split to look at (default: val)")
    p.add_argument("--option", action="append", default=[], metavar="key=value", help="option of the reader")
    p.add_argument("--images", type=_count, default=40, metavar="N", help="images to look at (default: 40)")
    p.add_argument("--id", default="id", metavar="FIELD", help="field with the ids (default: id)")
    p.add_argument("--table", metavar="NAME", help="which list of a JSON file that holds several")
    _device(p)
    p.set_defaults(run=taxonomy_suggest)

    data = commands.add_parser("data", help="check the data of an experiment")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("check", help="read every image and label, and count them")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML")
    _overrides(p)
    p.set_defaults(run=data_check)

    p = commands.add_parser("train", help="train one network on all datasets of an experiment")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML")
    p.add_argument("--out", required=True, metavar="RUN", help="folder for the run; MODELs are RUN/best and RUN/last")
    p.add_argument("--resume", action="store_true", help="go on where the run in RUN was stopped")
    _overrides(p)
    p.set_defaults(run=train)

    p = commands.add_parser("evaluate", help="score a model on every dataset, each in its own labels")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder, or an exported file")
    p.add_argument("--data", required=True, metavar="EXPERIMENT", help="experiment YAML whose val splits are scored")
    p.add_argument("--json", metavar="FILE", help="write the scores there")
    p.add_argument("--limit", type=_count, metavar="N", help="score only the first N images of each dataset")
    _back_off(p, "also score decisions that stop at the deepest node of probability P or more")
    _device(p)
    _overrides(p)
    p.set_defaults(run=evaluate)

    p = commands.add_parser("predict", help="label images, folders of images and videos")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder, or an exported file")
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder or video")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for label maps, overlays and JSON files")
    p.add_argument("--labels", metavar="SPACE", help="a label space of the model, or a YAML file (default: leaves)")
    _back_off(p, "write nodes of the tree: the deepest whose probability is P or more")
    p.add_argument("--overlay", action="store_true", help="also write the image under its label colours, with a legend")
    _device(p)
    p.set_defaults(run=predict)

    p = commands.add_parser("compare", help="train an experiment in several ways and seeds, with one table")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for runs and table; a second call goes on")
    ways = "hierarchical, iv2018, flat, concat, per_dataset, drop, specialists, unseen"
    p.add_argument("--ways", metavar="A,B", help=f"some of {ways} (default: all but unseen)")
    p.add_argument("--seeds", type=_count, default=1, metavar="N", help="train with seeds 0 to N-1 (default: 1)")
    _overrides(p)
    p.set_defaults(run=compare)

    p = commands.add_parser("export", help="write a model as one ONNX file or an OpenVINO pair")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder")
    p.add_argument("--format", required=True, choices=["onnx", "openvino"])
    p.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    p.add_argument("--out", required=True, metavar="FILE", help="FILE.onnx, or FILE.xml (with FILE.bin beside it)")
    p.add_argument("--calibrate", metavar="DATA", help="for int8: a folder, or an EXPERIMENT, which is also scored")
    p.add_argument("--images", type=_count, default=100, metavar="N", help="images to calibrate with (default: 100)")
    p.add_argument("--limit", type=_count, metavar="N", help="score only the first N val images of each dataset")
    p.set_defaults(run=export)

    p = commands.add_parser("bench", help="time every stage of a prediction on this machine")
    p.add_argument("model", nargs="?", metavar="MODEL", help="MODEL or RUN folder, or an exported file")
    p.add_argument("--preset", metavar="NAME", help="instead of a MODEL: random weights (fast, fast-lite0)")
    p.add_argument("--taxonomy", default="streets-108", metavar="NAME", help="its taxonomy (default: streets-108)")
    p.add_argument("--size", type=_size, default=(520, 706), metavar="HxW", help="image size (default: 520x706)")
    p.add_argument("--runtime", default="openvino", choices=["torch", "openvino", "onnx"])
    p.add_argument(
        "--precision", choices=["fp32", "bf16", "int8"], help="default: fp32; for a preset in openvino int8"
    )
    p.add_argument("--decision", choices=["path", "marginal"], help="default: as the model says (preset: path)")
    p.add_argument("--labels", default="leaves", metavar="SPACE", help="label space of the answer (default: leaves)")
    p.add_argument("--threads", type=_count, default=2, metavar="N")
    p.add_argument("--repeats", type=_count, default=50, metavar="N")
    p.add_argument("--batch", type=_count, default=1, metavar="N", help="also time the network on batches of N")
    p.add_argument("--json", metavar="FILE", help="write the figures there")
    p.set_defaults(run=bench)

    p = commands.add_parser("calibrate", help="find a temperature for every classifier on the val images")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder")
    p.add_argument("--data", required=True, metavar="EXPERIMENT", help="experiment YAML whose val splits are used")
    p.add_argument("--out", metavar="MODEL2", help="write a copy of MODEL with these temperatures there")
    p.add_argument("--json", metavar="FILE", help="write temperatures and figures there")
    p.add_argument("--limit", type=_count, metavar="N", help="use only the first N images of each dataset")
    _device(p)
    _overrides(p)
    p.set_defaults(run=calibrate)

    masks = commands.add_parser("masks", help="draw masks from boxes")
    actions = masks.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("draw", help="draw a dataset's boxes as coarse and fine masks, by the shapes of its labels")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for gtCoarse/ and gtFine/")
    p.add_argument("--compare", action="store_true", help="print the IoU with the dataset's own masks, by label")
    _overrides(p)
    p.set_defaults(run=masks_draw)

    p = commands.add_parser("relabel", help="give a dataset of coarse masks finer labels, where the network is sure")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder")
    p.add_argument("--data", required=True, metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--labels", required=True, metavar="SPACE", help="finer label space, of the model or a YAML file")
    p.add_argument("--confidence", type=_fraction, default=0.9, metavar="P", help="least p(fine | coarse) (0.9)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
    p.add_argument("--truth", metavar="NAME", help="dataset of the same images with true labels, to compare")
    _device(p)
    _overrides(p)
    p.set_defaults(run=relabel)

    blobs = commands.add_parser("blobs", help="give subclasses to the regions of a coarse label, one by one")
    actions = blobs.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("find", help="list the regions of a label with a proposal for each, and contact sheets")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--label", required=True, metavar="NAME", help="the coarse label, as its label space calls it")
    p.add_argument("--model", required=True, metavar="MODEL", help="MODEL or RUN folder of the network that proposes")
    p.add_argument("--labels", required=True, metavar="SPACE", help="label space with the subclasses, as for predict")
    p.add_argument("--least", type=_count, default=100, metavar="N", help="leave out smaller regions (100 pixels)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for blobs.csv and the sheets")
    _device(p)
    _overrides(p)
    p.set_defaults(run=blobs_find)
    p = actions.add_parser("apply", help="write the dataset with the confirmed subclasses in its masks")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--blobs", required=True, metavar="DIR", help="what find wrote, with `confirmed` filled in")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
    _overrides(p)
    p.set_defaults(run=blobs_apply)

    p = commands.add_parser("demo", help="generate three small datasets, train on all, evaluate, predict, report")
    p.add_argument("--out", default="runs/demo", metavar="DIR", help="folder for everything (default: runs/demo)")
    _overrides(p)
    p.set_defaults(run=demo)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point: returns the exit code."""
    parser = build_parser()
    args, extra = parser.parse_known_args(argv)
    if hasattr(args, "overrides") and all("=" in e and not e.startswith("-") for e in extra):
        args.overrides = [*args.overrides, *extra]  # argparse does not find them behind an option
    elif extra:
        parser.error(f"unknown argument {extra[0]!r}")
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except HeterosegError as error:
        for fault in error.faults:
            print(f"heteroseg: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("heteroseg: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a file where a folder is due, no right to write
        reason = error.strerror or str(error).partition("\n")[0]
        print(f"heteroseg: {f'{error.filename}: ' if error.filename else ''}{reason}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
