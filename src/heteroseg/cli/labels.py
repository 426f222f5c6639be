"""Commands for what labels mean: taxonomy, data, masks, relabel, blobs."""

import argparse
import sys
from pathlib import Path

from heteroseg.cli.options import add_device, add_overrides, count, fraction, pair
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
    from heteroseg.curation.concept_tables import import_file
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
    from heteroseg.curation.check import check_data
    from heteroseg.experiment.config import load_experiment

    check_data(*load_experiment(args.experiment, args.overrides), print)
    return 0


def data_audit(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.curation.audit import audit, audit_table
    from heteroseg.experiment.sources import open_sources
    from heteroseg.files import require_empty
    from heteroseg.model.model import load
    from heteroseg.provenance import facts
    from heteroseg.report import write_audit

    out = Path(args.out)
    require_empty(out)
    model = load(args.model, args.device) if args.model else None
    sources = open_sources(experiment, folder)
    result = audit(sources, model, args.images, args.sure, args.least, lambda text: print(text, file=sys.stderr))
    told = facts() | ({"model": f"{model.name}, weights {model.digest}"} if model else {})
    write_audit(out, f"Annotation of {experiment.name}", sources, result, args.sure, args.least, told)
    print(audit_table(result))
    print(f"page: {out / 'audit.html'}")
    return 0


def masks_draw(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.curation.box_masks import agreement, agreement_table, write_box_masks
    from heteroseg.experiment.sources import open_sources, source_named

    source = source_named(open_sources(experiment, folder), args.dataset)
    write_box_masks(source, Path(args.out), print)
    if args.compare:
        print(agreement_table(agreement([*source.train, *source.val], source.space)))
    return 0


def relabel(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.data, args.overrides)
    from heteroseg.curation.relabel import experiment_part
    from heteroseg.curation.relabel import relabel as run
    from heteroseg.experiment.sources import open_sources, source_named
    from heteroseg.model.model import load

    sources, out = open_sources(experiment, folder), Path(args.out)
    source = source_named(sources, args.dataset)
    model = load(args.model, args.device)
    curve = run(model, sources, args.dataset, model.space(args.labels), args.confidence, out, args.truth, print)
    if curve is not None:
        print(curve.table())
    print(f"{out}: to train on it, add to datasets of an experiment:\n{experiment_part(source, out)}")
    return 0


def blobs_find(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.curation.region_review import find_blobs
    from heteroseg.experiment.sources import open_sources
    from heteroseg.model.model import load

    sources = open_sources(experiment, folder)
    model = load(args.model, args.device)
    find_blobs(model, sources, args.dataset, args.label, model.space(args.labels), Path(args.out), args.least, print)
    return 0


def blobs_apply(args: argparse.Namespace) -> int:
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(args.experiment, args.overrides)
    from heteroseg.curation.region_review import apply_blobs
    from heteroseg.curation.relabel import experiment_part
    from heteroseg.experiment.sources import open_sources, source_named

    sources, out = open_sources(experiment, folder), Path(args.out)
    dataset = apply_blobs(sources, Path(args.blobs), out, print)
    part = experiment_part(source_named(sources, dataset), out)
    print(f"{out}: to train on it, add to datasets of an experiment:\n{part}")
    return 0


def add(commands: argparse._SubParsersAction) -> None:
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
    p.add_argument("--images", type=count, default=40, metavar="N", help="images to look at (default: 40)")
    p.add_argument("--id", default="id", metavar="FIELD", help="field with the ids (default: id)")
    p.add_argument("--table", metavar="NAME", help="which list of a JSON file that holds several")
    add_device(p)
    p.set_defaults(run=taxonomy_suggest)

    data = commands.add_parser("data", help="check or audit the data of an experiment")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("check", help="read every image and label, and count them")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML")
    add_overrides(p)
    p.set_defaults(run=data_check)
    p = actions.add_parser("audit", help="a page about the annotation: counts, conflicts, likely errors with pictures")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML")
    p.add_argument("--out", required=True, metavar="DIR", help="a new folder for audit.html and audit.json")
    p.add_argument("--model", metavar="MODEL", help="also look where this network surely sees something else")
    p.add_argument("--images", type=count, default=100, metavar="N", help="images of each split to look at (100)")
    p.add_argument("--sure", type=fraction, default=0.9, metavar="P", help="least probability of its answer (0.9)")
    p.add_argument("--least", type=count, default=200, metavar="N", help="least pixels of a region (200)")
    add_device(p)
    add_overrides(p)
    p.set_defaults(run=data_audit)

    masks = commands.add_parser("masks", help="draw masks from boxes")
    actions = masks.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("draw", help="draw a dataset's boxes as coarse and fine masks, by the shapes of its labels")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for gtCoarse/ and gtFine/")
    p.add_argument("--compare", action="store_true", help="print the IoU with the dataset's own masks, by label")
    add_overrides(p)
    p.set_defaults(run=masks_draw)

    p = commands.add_parser("relabel", help="give a dataset of coarse masks finer labels, where the network is sure")
    p.add_argument("model", metavar="MODEL", help="MODEL or RUN folder")
    p.add_argument("--data", required=True, metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--labels", required=True, metavar="SPACE", help="finer label space, of the model or a YAML file")
    p.add_argument("--confidence", type=fraction, default=0.9, metavar="P", help="least p(fine | coarse) (0.9)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
    p.add_argument("--truth", metavar="NAME", help="dataset of the same images with true labels, to compare")
    add_device(p)
    add_overrides(p)
    p.set_defaults(run=relabel)

    blobs = commands.add_parser("blobs", help="give subclasses to the regions of a coarse label, one by one")
    actions = blobs.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = actions.add_parser("find", help="list the regions of a label with a proposal for each, and contact sheets")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--dataset", required=True, metavar="NAME", help="which dataset of the experiment")
    p.add_argument("--label", required=True, metavar="NAME", help="the coarse label, as its label space calls it")
    p.add_argument("--model", required=True, metavar="MODEL", help="MODEL or RUN folder of the network that proposes")
    p.add_argument("--labels", required=True, metavar="SPACE", help="label space with the subclasses, as for predict")
    p.add_argument("--least", type=count, default=100, metavar="N", help="leave out smaller regions (100 pixels)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for blobs.csv and the sheets")
    add_device(p)
    add_overrides(p)
    p.set_defaults(run=blobs_find)
    p = actions.add_parser("apply", help="write the dataset with the confirmed subclasses in its masks")
    p.add_argument("experiment", metavar="EXPERIMENT", help="experiment YAML that has the dataset")
    p.add_argument("--blobs", required=True, metavar="DIR", help="what find wrote, with `confirmed` filled in")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the new dataset")
    add_overrides(p)
    p.set_defaults(run=blobs_apply)
