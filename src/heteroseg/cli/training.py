"""Commands for making networks: train, compare, demo."""

import argparse
from pathlib import Path

from heteroseg.cli.options import Action, add_command, count, log, write_run_report


def train(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.evaluation.table import score_table
    from heteroseg.training.loop import train as run

    result = run(experiment, folder, Path(args.out), args.resume)
    if result is not None:
        print(score_table(result))
        write_run_report(Path(args.out), Path(args.out) / "report.html")
        print(f"run: {args.out} (MODEL: {args.out}/best and {args.out}/last)")
    return 0


def compare(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.comparison.joining import WAYS
    from heteroseg.comparison.runner import compare as run
    from heteroseg.comparison.table import markdown

    ways = args.ways.split(",") if args.ways else [way for way in WAYS if way != "unseen"]
    seeds = range(args.seeds)
    table = run(experiment, folder, Path(args.out), ways, seeds, log, args.jobs)
    print(markdown(table))
    from heteroseg.files import yaml_text
    from heteroseg.provenance import facts
    from heteroseg.report import write_comparison

    text = yaml_text(experiment)
    write_comparison(Path(args.out) / "report.html", f"Ways to train {experiment.name}", table, text, facts(folder))
    print(f"table: {args.out}/table.md, .csv, .json, .png; report: {args.out}/report.html")
    return 0


def demo(args: argparse.Namespace) -> int:
    from heteroseg.demo import run_demo

    run_demo(Path(args.out), args.overrides, print)
    return 0


def add(commands: Action) -> None:
    does = "train one network on all datasets of an experiment"
    p = add_command(commands, "train", train, does, "experiment", "overrides")
    p.add_argument("--out", required=True, metavar="RUN", help="folder for the run; MODELs are RUN/best and RUN/last")
    p.add_argument("--resume", action="store_true", help="go on where the run in RUN was stopped")

    does = "train an experiment in several ways and seeds, with one table"
    p = add_command(commands, "compare", compare, does, "experiment", "overrides")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for runs and table; a second call goes on")
    ways = "hierarchical, iv2018, flat, concat, per_dataset, drop, specialists, unseen"
    p.add_argument("--ways", metavar="A,B", help=f"some of {ways} (default: all but unseen)")
    p.add_argument("--seeds", type=count, default=1, metavar="N", help="train with seeds 0 to N-1 (default: 1)")
    p.add_argument("--jobs", type=count, default=1, metavar="N", help="train N networks at once (default: 1)")

    does = "generate three small datasets, train on all, evaluate, predict, report"
    p = add_command(commands, "demo", demo, does, "overrides")
    p.add_argument("--out", default="runs/demo", metavar="DIR", help="folder for everything (default: runs/demo)")
