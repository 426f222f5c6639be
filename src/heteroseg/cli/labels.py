"""Commands for labels and annotation: taxonomy, data, masks, relabel, blobs."""

import argparse
from functools import partial
from pathlib import Path

import heteroseg
from heteroseg.cli.options import (
    Action,
    add_command,
    add_group,
    allow_overlap,
    count,
    fraction,
    log,
    new_file,
    new_folder,
    open_experiment,
    option,
    pair,
)
from heteroseg.errors import HeterosegError, counted, raise_faults


def taxonomy_check(args: argparse.Namespace) -> None:
    from heteroseg.labels.describe import check_spec_file

    faults: list[str] = []
    for path in args.files:
        try:
            print(check_spec_file(path))
        except HeterosegError as error:
            faults.extend(error.faults)
    raise_faults(faults)


def taxonomy_show(args: argparse.Namespace) -> None:
    from heteroseg.labels.describe import show_spec_file

    print(show_spec_file(args.file))


def taxonomy_import(args: argparse.Namespace) -> None:
    from heteroseg.curation.label_lists import import_file
    from heteroseg.labels.describe import spec_line

    for path, spec in import_file(args.file, args.out, args.name, args.id, args.table, args.flat).items():
        print(spec_line(str(path), spec))


def taxonomy_suggest(args: argparse.Namespace) -> None:
    from heteroseg.curation.label_lists import read_label_list
    from heteroseg.curation.spec_text import is_shipped
    from heteroseg.curation.suggest import collect, suggest

    labels, source, evidence = read_label_list(args.labels, args.id, args.table), args.labels.name, None
    if args.model:
        if args.taxonomy or not (args.reader and args.root):
            raise HeterosegError("--model goes with --reader and --root, and has a taxonomy of its own; see --help")
        model = heteroseg.load(args.model, args.device)
        tree = model.taxonomy
        if is_shipped(tree):
            taxonomy = tree.name
        elif model.origin:
            taxonomy = str(model.origin.resolve() / "taxonomy.yaml")
        else:
            raise HeterosegError(f"{args.model}: expected a MODEL, whose tree has a file, found an exported network")
        evidence = collect(model, labels, args.reader, args.root, args.split, dict(args.option), args.images)
        source += f" and {counted(evidence.images, 'image')} of {args.root.name}/{args.split}"
    elif args.taxonomy:
        tree, taxonomy = heteroseg.load_taxonomy(args.taxonomy), args.taxonomy
        taxonomy = str(Path(taxonomy).resolve()) if taxonomy.endswith((".yaml", ".yml")) else taxonomy
    else:
        raise HeterosegError("expected --taxonomy or --model, found neither; see heteroseg taxonomy suggest --help")
    print(suggest(labels, tree, evidence, args.out, taxonomy, source))
    print(f"draft: {args.out}")


def data_check(args: argparse.Namespace) -> None:
    _, sources = open_experiment(args.experiment, args.overrides, skipped=args.skipped)
    from heteroseg.curation.check import check_data

    check_data(sources, print, args.allow_overlap)


def data_show(args: argparse.Namespace) -> None:
    experiment, sources = open_experiment(args.experiment, args.overrides, skipped=args.skipped)
    from heteroseg.curation.check import check_data
    from heteroseg.curation.show import show_data
    from heteroseg.report.data import write_data_page

    check_data(sources, log, args.allow_overlap)
    show_data(sources, args.out, args.images, print, partial(write_data_page, experiment, sources))
    print(f"page: {args.out / 'data.html'}")


def data_audit(args: argparse.Namespace) -> None:
    experiment, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.audit import audit
    from heteroseg.curation.new_dataset import job_of
    from heteroseg.files import fill_template
    from heteroseg.provenance import facts
    from heteroseg.report.audit import write_audit
    from heteroseg.writing import filling

    limits = {"min_confidence": args.min_confidence, "min_pixels": args.min_pixels}
    with filling(args.out, job_of("data audit", sources, model=args.model, images=args.images, **limits)):
        model = heteroseg.load(args.model, args.device) if args.model else None
        result = audit(sources, model, args.images, args.min_confidence, args.min_pixels, log)
        told = facts() | ({"model": f"{model.name}, weights {model.digest}"} if model else {})
        write_audit(args.out, result, told, title=f"Annotation of {experiment.name}", sources=sources, **limits)
    print(fill_template("audit.txt", vars(result)))
    print(f"page: {args.out / 'audit.html'}")


def masks_draw(args: argparse.Namespace) -> None:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.box_masks import agreement, write_box_masks
    from heteroseg.experiment.sources import source_named
    from heteroseg.files import fill_template

    source = source_named(sources, args.dataset)
    write_box_masks(source, args.out, print)
    if args.compare:
        labels = agreement([*source.train, *source.val], source.space)
        print(fill_template("agreement.txt", {"labels": labels}))


def relabel(args: argparse.Namespace) -> None:
    _, sources = open_experiment(args.data, args.overrides)
    from heteroseg.curation.relabel import relabel as run
    from heteroseg.experiment.sources import source_named

    source = source_named(sources, args.dataset)
    truth = source_named(sources, args.truth) if args.truth else None
    model = heteroseg.load(args.model, args.device)
    run(model, source, model.space(args.labels), args.confidence, args.out, truth, print)


def blobs_find(args: argparse.Namespace) -> None:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.region_review import find_regions
    from heteroseg.experiment.sources import source_named

    source, model = source_named(sources, args.dataset), heteroseg.load(args.model, args.device)
    find_regions(model, source, args.label, model.space(args.labels), args.out, args.min_pixels, print)


def blobs_apply(args: argparse.Namespace) -> None:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.region_review import apply_regions

    apply_regions(sources, args.blobs, args.out, print)


def add(commands: Action) -> None:
    actions = add_group(commands, "taxonomy", "check or show taxonomies and label spaces, or make new ones")
    p = add_command(actions, "check", taxonomy_check, "find every fault of taxonomy and label space files")
    option(p, "files", "FILE", "a YAML file, or the name of a shipped one", nargs="+")

    p = add_command(actions, "show", taxonomy_show, "print the classifiers of a tree, or the nodes of a label space")
    option(p, "file", "FILE", "a YAML file, or the name of a shipped one")

    p = add_command(actions, "import", taxonomy_import, "turn published lists of labels into YAML", "--id", "--table")
    option(p, "file", "FILE", "labels.py, config.json, .csv, label_colors.txt", Path)
    option(p, "--out", "DIR", "folder for the taxonomy and label space files", new_folder, required=True)
    p.add_argument("--name", help="name of the taxonomy or label space (default: from FILE)")
    p.add_argument("--flat", action="store_true", help="one classifier for all instead of a tree by groups")

    does = "propose where a dataset's labels belong, as a label space to edit"
    p = add_command(actions, "suggest", taxonomy_suggest, does, "--id", "--table", "--device")
    option(p, "labels", "LABELS", "a list of labels, as for import", Path)
    option(p, "--out", "FILE", "label space YAML to write", Path, required=True)
    option(p, "--taxonomy", "TREE", "compare names with this taxonomy")
    option(p, "--model", "MODEL", "also look what this network sees under each label's pixels")
    p.add_argument("--reader", help="reader of the dataset's images and masks, for --model")
    option(p, "--root", "DIR", "folder of the dataset, for --model", Path)
    p.add_argument("--split", default="val", help="split to look at (default: val)")
    option(p, "--option", "key=value", "option of the reader", pair, action="append", default=[])
    option(p, "--images", "N", "images to look at (default: 40)", count, default=40)

    actions = add_group(commands, "data", "check, show or audit the data of an experiment")
    does = "read every image and label, count them, and tell what looks wrong"
    p = add_command(actions, "check", data_check, does, "experiment", "overrides")
    allow_overlap(p)
    option(p, "--skipped", "FILE", "write there what the option skip_faulty left out", new_file)

    does = "write what every pixel teaches: maps with a legend, and a page"
    p = add_command(actions, "show", data_show, does, "experiment", "overrides")
    option(p, "--out", "DIR", "folder for maps.json, legend.json, data.html and the maps", new_folder, required=True)
    option(p, "--images", "N", "only N images of each split (default: all)", count)
    allow_overlap(p)
    option(p, "--skipped", "FILE", "write there what the option skip_faulty left out", new_file)

    does = "write a page about the annotation: counts, conflicts, likely errors with pictures"
    p = add_command(actions, "audit", data_audit, does, "experiment", "--device", "overrides")
    option(p, "--out", "DIR", "a new folder for audit.html and audit.json", new_folder, required=True)
    option(p, "--model", "MODEL", "also look where this network surely sees something else")
    option(p, "--images", "N", "images of each split to look at (100)", count, default=100)
    sure = "look where it gives its answer a probability of P or more (0.9)"
    option(p, "--sure", "P", sure, fraction, default=0.9, dest="min_confidence")
    option(p, "--least", "N", "least pixels of a region (200)", count, default=200, dest="min_pixels")
    _add_new_datasets(commands)


def _add_new_datasets(commands: Action) -> None:
    actions = add_group(commands, "masks", "draw masks from boxes")
    does = "draw a dataset's boxes as coarse and fine masks, by the shapes of its labels"
    p = add_command(actions, "draw", masks_draw, does, "experiment", "--dataset", "overrides")
    option(p, "--out", "DIR", "folder for gtCoarse/ and gtFine/", new_folder, required=True)
    p.add_argument("--compare", action="store_true", help="print the IoU with the dataset's own masks, by label")

    does = "give a dataset of coarse masks finer labels, where the network is sure"
    p = add_command(commands, "relabel", relabel, does, "model", "--data", "--dataset", "--device", "overrides")
    option(p, "--labels", "SPACE", "finer label space, of the model or a YAML file", required=True)
    option(p, "--confidence", "P", "refine where p(fine | coarse) is P or more (0.9)", fraction, default=0.9)
    option(p, "--out", "DIR", "folder for the new dataset", new_folder, required=True)
    option(p, "--truth", "NAME", "dataset of the same images with true labels, to compare")

    actions = add_group(commands, "blobs", "give subclasses to the regions of a coarse label, one by one")
    does = "list the regions of a label with a proposal for each, and contact sheets"
    p = add_command(actions, "find", blobs_find, does, "experiment", "--dataset", "--device", "overrides")
    option(p, "--label", "NAME", "the coarse label, as its label space calls it", required=True)
    option(p, "--model", "MODEL", "MODEL or RUN folder of the network that proposes", required=True)
    option(p, "--labels", "SPACE", "label space with the subclasses, as for predict", required=True)
    option(p, "--least", "N", "leave out smaller regions (100 pixels)", count, default=100, dest="min_pixels")
    option(p, "--out", "DIR", "folder for blobs.csv and the sheets", new_folder, required=True)

    does = "write the dataset with the confirmed subclasses in its masks"
    p = add_command(actions, "apply", blobs_apply, does, "experiment", "overrides")
    option(p, "--blobs", "DIR", "what find wrote, with `confirmed` filled in", Path, required=True)
    option(p, "--out", "DIR", "folder for the new dataset", new_folder, required=True)
