"""Commands for labels and annotation: taxonomy, data, masks, relabel, blobs."""

import argparse
from pathlib import Path

from heteroseg.cli.options import Action, add_command, add_group, count, fraction, log, open_experiment, pair
from heteroseg.errors import HeterosegError


def taxonomy_check(args: argparse.Namespace) -> int:
    from heteroseg.labels.describe import check_spec_file

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
    from heteroseg.labels.describe import show_spec_file

    print(show_spec_file(args.file))
    return 0


def taxonomy_import(args: argparse.Namespace) -> int:
    from heteroseg.curation.label_lists import import_file
    from heteroseg.labels.describe import check_spec_file

    for path in import_file(args.file, args.out, args.name, args.id, args.table, args.flat):
        print(check_spec_file(str(path)))
    return 0


def taxonomy_suggest(args: argparse.Namespace) -> int:
    from heteroseg.curation.label_lists import read_label_list
    from heteroseg.curation.spec_text import is_shipped
    from heteroseg.curation.suggest import collect, suggest

    labels, source, evidence = read_label_list(args.labels, args.id, args.table), Path(args.labels).name, None
    if args.model:
        from heteroseg.model.model import load

        if args.taxonomy or not (args.reader and args.root):
            raise HeterosegError("--model goes with --reader and --root, and has a taxonomy of its own; see --help")
        model = load(args.model, args.device)
        options = dict(pair(option) for option in args.option)
        evidence = collect(model, labels, args.reader, Path(args.root), args.split, options, args.images)
        tree = model.taxonomy
        taxonomy = tree.name if is_shipped(tree) else str(Path(args.model).resolve() / "taxonomy.yaml")
        source += f" and {evidence.images} images of {Path(args.root).name}/{args.split}"
    elif args.taxonomy:
        from heteroseg.labels.taxonomy import load_taxonomy

        tree, taxonomy = load_taxonomy(args.taxonomy), args.taxonomy
        taxonomy = str(Path(taxonomy).resolve()) if taxonomy.endswith((".yaml", ".yml")) else taxonomy
    else:
        raise HeterosegError("expected --taxonomy or --model, found neither; see heteroseg taxonomy suggest --help")
    print(suggest(labels, tree, evidence, Path(args.out), taxonomy, source))
    print(f"draft: {args.out}")
    return 0


def data_check(args: argparse.Namespace) -> int:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.check import check_data

    check_data(sources, print)
    return 0


def data_audit(args: argparse.Namespace) -> int:
    experiment, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.audit import audit, audit_table
    from heteroseg.files import require_empty
    from heteroseg.model.model import load
    from heteroseg.provenance import facts
    from heteroseg.report import write_audit

    out = Path(args.out)
    require_empty(out)
    model = load(args.model, args.device) if args.model else None
    result = audit(sources, model, args.images, args.min_confidence, args.min_pixels, log)
    told = facts() | ({"model": f"{model.name}, weights {model.digest}"} if model else {})
    title = f"Annotation of {experiment.name}"
    write_audit(out, title, sources, result, args.min_confidence, args.min_pixels, told)
    print(audit_table(result))
    print(f"page: {out / 'audit.html'}")
    return 0


def masks_draw(args: argparse.Namespace) -> int:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.box_masks import agreement, agreement_table, write_box_masks
    from heteroseg.experiment.sources import source_named

    source = source_named(sources, args.dataset)
    write_box_masks(source, Path(args.out), print)
    if args.compare:
        print(agreement_table(agreement([*source.train, *source.val], source.space)))
    return 0


def relabel(args: argparse.Namespace) -> int:
    _, sources = open_experiment(args.data, args.overrides)
    from heteroseg.curation.new_dataset import experiment_part
    from heteroseg.curation.relabel import relabel as run
    from heteroseg.experiment.sources import source_named
    from heteroseg.model.model import load

    source, out = source_named(sources, args.dataset), Path(args.out)
    truth = source_named(sources, args.truth) if args.truth else None
    model = load(args.model, args.device)
    curve = run(model, source, model.space(args.labels), args.confidence, out, truth, print)
    if curve is not None:
        print(curve.table())
    print(experiment_part(source, out))
    return 0


def blobs_find(args: argparse.Namespace) -> int:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.region_review import find_regions
    from heteroseg.experiment.sources import source_named
    from heteroseg.model.model import load

    source, model = source_named(sources, args.dataset), load(args.model, args.device)
    find_regions(model, source, args.label, model.space(args.labels), Path(args.out), args.min_pixels, print)
    return 0


def blobs_apply(args: argparse.Namespace) -> int:
    _, sources = open_experiment(args.experiment, args.overrides)
    from heteroseg.curation.new_dataset import experiment_part
    from heteroseg.curation.region_review import apply_regions

    out = Path(args.out)
    print(experiment_part(apply_regions(sources, Path(args.blobs), out, print), out))
    return 0


def add(commands: Action) -> None:
    _add_taxonomy(add_group(commands, "taxonomy", "check or show taxonomies and label spaces, or make new ones"))
    _add_data(add_group(commands, "data", "check or audit the data of an experiment"))
    _add_new_datasets(commands)


def _add_taxonomy(actions: Action) -> None:
    p = add_command(actions, "check", taxonomy_check, "find every fault of taxonomy and label space files")
    p.add_argument("files", nargs="+", metavar="FILE", help="a YAML file, or the name of a shipped one")

    p = add_command(actions, "show", taxonomy_show, "print the classifiers of a tree, or the nodes of a label space")
    p.add_argument("file", metavar="FILE", help="a YAML file, or the name of a shipped one")

    p = add_command(actions, "import", taxonomy_import, "turn published lists of labels into YAML")
    p.add_argument("file", metavar="FILE", help="labels.py, config.json, .csv, label_colors.txt")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the taxonomy and label space files")
    p.add_argument("--name", help="name of the taxonomy or label space (default: from FILE)")
    _add_list_options(p)
    p.add_argument("--flat", action="store_true", help="one classifier for all instead of a tree by groups")

    does = "propose where a dataset's labels belong, as a label space to edit"
    p = add_command(actions, "suggest", taxonomy_suggest, does, "--device")
    p.add_argument("labels", metavar="LABELS", help="a list of labels, as for import")
    p.add_argument("--out", required=True, metavar="FILE", help="label space YAML to write")
    p.add_argument("--taxonomy", metavar="TREE", help="compare names with this taxonomy")
    p.add_argument("--model", metavar="MODEL", help="also look what this network sees under each label's pixels")
    p.add_argument("--reader", help="reader of the dataset's images and masks, for --model")
    p.add_argument("--root", metavar="DIR", help="folder of the dataset, for --model")
    p.add_argument("--split", default="val", help="split to look at (default: val)")
    p.add_argument("--option", action="append", default=[], metavar="key=value", help="option of the reader")
    p.add_argument("--images", type=count, default=40, metavar="N", help="images to look at (default: 40)")
    _add_list_options(p)


def _add_list_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--id", default="id", metavar="FIELD", help="field with the ids, such as trainId (default: id)")
    p.add_argument("--table", metavar="NAME", help="which list of a JSON file that holds several")


def _add_data(actions: Action) -> None:
    does = "read every image and label, and count them"
    add_command(actions, "check", data_check, does, "experiment", "overrides")

    does = "write a page about the annotation: counts, conflicts, likely errors with pictures"
    p = add_command(actions, "audit", data_audit, does, "experiment", "--device", "overrides")
    p.add_argument("--out", required=True, metavar="DIR", help="a new folder for audit.html and audit.json")
    p.add_argument("--model", metavar="MODEL", help="also look where this network surely sees something else")
    p.add_argument("--images", type=count, default=100, metavar="N", help="images of each split to look at (100)")
    sure, least = "least probability of its answer (0.9)", "least pixels of a region (200)"
    p.add_argument("--sure", type=fraction, default=0.9, metavar="P", dest="min_confidence", help=sure)
    p.add_argument("--least", type=count, default=200, metavar="N", dest="min_pixels", help=least)


def _add_new_datasets(commands: Action) -> None:
    actions = add_group(commands, "masks", "draw masks from boxes")
    does = "draw a dataset's boxes as coarse and fine masks, by the shapes of its labels"
    p = add_command(actions, "draw", masks_draw, does, "experiment", "--dataset", "overrides")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for gtCoarse/ and gtFine/")
    p.add_argument("--compare", action="store_true", help="print the IoU with the dataset's own masks, by label")

    does = "give a dataset of coarse masks finer labels, where the network is sure"
    p = add_command(commands, "relabel", relabel, does, "model", "--data", "--dataset", "--device", "overrides")
    p.add_argument("--labels", required=True, metavar="SPACE", help="finer label space, of the model or a YAML file")
    p.add_argument("--confidence", type=fraction, default=0.9, metavar="P", help="least p(fine | coarse) (0.9)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
    p.add_argument("--truth", metavar="NAME", help="dataset of the same images with true labels, to compare")

    actions = add_group(commands, "blobs", "give subclasses to the regions of a coarse label, one by one")
    does = "list the regions of a label with a proposal for each, and contact sheets"
    p = add_command(actions, "find", blobs_find, does, "experiment", "--dataset", "--device", "overrides")
    p.add_argument("--label", required=True, metavar="NAME", help="the coarse label, as its label space calls it")
    p.add_argument("--model", required=True, metavar="MODEL", help="MODEL or RUN folder of the network that proposes")
    p.add_argument("--labels", required=True, metavar="SPACE", help="label space with the subclasses, as for predict")
    least = "leave out smaller regions (100 pixels)"
    p.add_argument("--least", type=count, default=100, metavar="N", dest="min_pixels", help=least)
    p.add_argument("--out", required=True, metavar="DIR", help="folder for blobs.csv and the sheets")

    does = "write the dataset with the confirmed subclasses in its masks"
    p = add_command(actions, "apply", blobs_apply, does, "experiment", "overrides")
    p.add_argument("--blobs", required=True, metavar="DIR", help="what find wrote, with `confirmed` filled in")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
