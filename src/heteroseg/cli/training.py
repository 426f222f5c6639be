"""Commands for making networks: init, config, train, compare, demo."""

import argparse
import json
import os
import sys
from pathlib import Path

import heteroseg
from heteroseg.cli.options import Action, add_command, allow_overlap, count, log, new_folder, option, several
from heteroseg.errors import HeterosegError, missing_package, warn
from heteroseg.writing import is_free, put_aside


def write_run_report(
    run: Path, out: Path | None = None, images: int = 9, data: Path | None = None, trust: str | None = None
) -> None:
    from heteroseg.report.run import report_run

    if out is None:
        put_aside(out := run / "report.html")
    for note in report_run(run, out, images, data, trust=trust):
        log(f"heteroseg: {note}")
    print(f"report: {out}")


def named_from_here(model: str) -> str:
    """A MODEL of the command line as an experiment in another folder names it."""
    here = Path(model).absolute()
    return model if model.startswith("hf://") or (model == "demo" and is_free(here)) else str(here)


def train(args: argparse.Namespace) -> None:
    begin = [f"train.begin={json.dumps(named_from_here(args.begin), ensure_ascii=False)}"] if args.begin else []
    _train(args, [*args.overrides, *begin])


def _train(args: argparse.Namespace, overrides: list[str]) -> "heteroseg.Experiment":
    experiment, folder = heteroseg.load_experiment(args.experiment, overrides)
    tell = (lambda _: None) if args.no_warnings else warn
    result = heteroseg.train(experiment, folder, args.out, args.resume, args.allow_overlap, tell)
    if result is not None:
        from heteroseg.files import fill_template

        print(fill_template("scores.txt", result))
        write_run_report(args.out, trust=experiment.model.backbone)
        print(f"run: {args.out} (MODEL: {args.out}/best and {args.out}/last)")
    return experiment


def grow(args: argparse.Namespace) -> None:
    name = named_from_here(args.model)
    pairs = (("begin", name), ("grow", args.node))
    keys = [f"train.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs]
    args.experiment = args.data
    experiment = _train(args, [*args.overrides, *keys])
    if int(os.environ.get("LOCAL_RANK", 0)):
        return  # another process of the same run
    from heteroseg.experiment.sources import open_sources
    from heteroseg.model.beginning import open_model
    from heteroseg.model.growing import changed_pixels

    folder = Path(args.data).resolve().parent
    images = [item.image for source in open_sources(experiment, folder, ["val"]) for item in source.val]
    trust = experiment.model.backbone
    before, after = open_model(name, folder, "begin", trust), heteroseg.load(args.out, trust=trust)
    changed = changed_pixels(before, after, images)
    told = ", ".join(f"{space} {100 * share:.4g} %" for space, share in changed.items())
    print(f"pixels of {len(images)} val images with another answer than before: {told}")


def compare(args: argparse.Namespace) -> None:
    experiment, folder = heteroseg.load_experiment(args.experiment, args.overrides)
    from heteroseg.comparison.joining import LEAVE_ONE_OUT, WAYS

    try:
        from heteroseg.comparison.runner import compare as run
        from heteroseg.comparison.table import markdown
    except ModuleNotFoundError as error:
        raise missing_package("compare", error, "plots") from None
    from heteroseg.files import read_json, yaml_text
    from heteroseg.provenance import facts
    from heteroseg.report.comparison import write_comparison

    ways = args.ways.split(",") if args.ways else [way for way in WAYS if way not in LEAVE_ONE_OUT]
    table = run(experiment, folder, args.out, ways, range(args.seeds), log, args.jobs, args.allow_overlap)
    print(markdown(table))
    title, text = f"Ways to train {experiment.name}", yaml_text(read_json(args.out / "experiment.json"))
    write_comparison(args.out / "report.html", title, table, text, facts(folder))
    print(f"table: {args.out}/table.md, .csv, .json, .png; report: {args.out}/report.html")


def demo(args: argparse.Namespace) -> None:
    from heteroseg.demo import run_demo, run_quick

    if args.quick and args.overrides:
        raise HeterosegError(f"--quick trains nothing, so it has no settings, found {args.overrides[0]!r}; drop one")
    run_quick(args.out, print) if args.quick else run_demo(args.out, args.overrides, print)


def init(args: argparse.Namespace) -> None:
    from heteroseg.experiment.reference import write_beginning

    write_beginning(args.folder)
    print(f"{args.folder}: tree.yaml, parks.yaml, signs.yaml and experiment.yaml, to be made yours; then")
    print(f"heteroseg data check {args.folder / 'experiment.yaml'}")


def join(args: argparse.Namespace) -> None:
    from heteroseg.curation.join import join as run
    from heteroseg.curation.recognise import recognise

    model = heteroseg.load(args.model) if args.model else None
    run([recognise(given) for given in args.given], args.out, model, _yes if args.yes else _asked, print)
    print(f"read {args.out}/*.yaml, then")
    begun = f" --from {args.model}" if args.model else ""
    print(f"heteroseg data check {args.out}/experiment.yaml")
    print(f"heteroseg train {args.out}/experiment.yaml --out RUN{begun}")


def _yes(question: str) -> bool:
    log(f"{question} taken for yes")
    return True


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        told = "expected a terminal to ask, found none; add --yes to take what is doubtful for so"
        raise HeterosegError(f"{question} {told}")
    while (answer := input(f"{question} [Y/n] ").strip().lower()) not in ("", "y", "yes", "n", "no"):
        pass
    return answer in ("", "y", "yes")


def config(args: argparse.Namespace) -> None:
    from heteroseg.errors import require_one_of
    from heteroseg.experiment.reference import config_text

    if args.key is not None:
        require_one_of("config", args.key, heteroseg.Experiment.model_fields)
    print(config_text(args.key), end="")


def _run_options(p: argparse.ArgumentParser) -> None:
    allow_overlap(p)
    p.add_argument("--resume", action="store_true", help="go on where the run in RUN was stopped")
    p.add_argument("--no-warnings", action="store_true", help="do not tell what looks wrong in the data")


def add(commands: Action) -> None:
    does = "generate three small datasets, train on all, evaluate, predict, report"
    p = add_command(commands, "demo", demo, does, "overrides")
    option(p, "--out", "DIR", "folder for everything (default: runs/demo)", new_folder, default="runs/demo")
    p.add_argument("--quick", action="store_true", help="train nothing, show the network that ships: under a minute")

    does = "write an experiment with its tree and label spaces, with comments, to fill in"
    p = add_command(commands, "init", init, does)
    option(p, "folder", "DIR", "a new or empty folder", Path)

    does = "make one experiment of datasets as they are: its tree and label spaces are proposed by names"
    p = add_command(commands, "join", join, does)
    given = "a folder, data.yaml, COCO json, export of CVAT or Label Studio, or shipped label space"
    option(p, "given", "[NAME=]DATA", given, nargs="+")
    option(p, "--out", "DIR", "a new or empty folder", new_folder, required=True)
    option(p, "--model", "MODEL", "begin with the tree of this network, and look what it sees under each label")
    p.add_argument("--yes", action="store_true", help="ask nothing: take what is doubtful for so, and list it")

    does = "print every key of an experiment with its kind, default and meaning, as YAML"
    p = add_command(commands, "config", config, does)
    option(p, "key", "SECTION", "one section alone, such as train or datasets", nargs="?")

    does = "train one network on all datasets of an experiment"
    p = add_command(commands, "train", train, does, "experiment", "overrides")
    option(p, "--out", "RUN", "folder for the run; MODELs are RUN/best and RUN/last", Path, required=True)
    does = "MODEL, RUN or hf://owner/name whose weights are the first, by the names of nodes (sets train.begin)"
    p.add_argument("--from", dest="begin", metavar="MODEL", help=does)
    _run_options(p)

    does = "learn new nodes under one of a trained model, everything else frozen"
    p = add_command(commands, "grow", grow, does, "model", "--data", "overrides")
    option(p, "--node", "NODE", "a node of the model; the experiment's tree has new ones under it", required=True)
    option(p, "--out", "RUN", "folder for the run; the new MODELs are RUN/best and RUN/last", Path, required=True)
    _run_options(p)

    does = "train an experiment in several ways and seeds, with one table"
    p = add_command(commands, "compare", compare, does, "experiment", "overrides")
    does = "folder for runs and table; a second call goes on, also with other ways and seeds"
    option(p, "--out", "DIR", does, new_folder, required=True)
    allow_overlap(p)
    ways = "hierarchical, iv2018, flat, concat, per_dataset, drop, specialists, unseen, unseen_flat"
    one = "one network of the last three alone: specialists-DATASET"
    option(p, "--ways", "A,B", f"some of {ways} (default: all but the last two); {one}")
    option(p, "--seeds", "N", "train with seeds 0 to N-1 (default: 1)", count, default=1)
    option(p, "--jobs", "N", "train N networks at once (default: 1)", several, default=1)
