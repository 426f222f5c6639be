"""The page about a RUN folder, from what training left there."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import in_taxonomy_of
from heteroseg.experiment.config import Experiment, load_experiment
from heteroseg.experiment.sources import Source, open_sources, overlaps
from heteroseg.files import yaml_text
from heteroseg.model.model import Model, load
from heteroseg.model.run_folder import read_begun, read_evaluation, read_evaluations, read_facts, read_log
from heteroseg.provenance import facts as facts_now
from heteroseg.report.examples import collect_examples
from heteroseg.report.page import Contents, write_report
from heteroseg.report.statistics import count


def evaluation_contents(
    title: str, model: Model, sources: list[Source], evaluation: dict[str, Any], images: int
) -> Contents:
    """A page about an evaluation alone: scores, pictures, the tree; nothing about training."""
    spaces = {s.name: in_taxonomy_of(model, s.space) for s in sources}
    examples = collect_examples(model, sources, evaluation, images)
    statistics, facts = {s.name: count(s) for s in sources}, facts_now() | {"weights": model.digest}
    told = [*evaluation.get("training_warnings", []), *evaluation.get("warnings", [])]
    return Contents(title, model.taxonomy, spaces, evaluation, examples, statistics=statistics, facts=facts, notes=told)


def report_run(
    run: Path, out: Path, images: int = 9, data: Path | None = None, title: str = "", trust: str | None = None
) -> list[str]:
    """Write the page about a finished RUN to `out`; about `images` pictures of each dataset, or twice as many where
    labels are rare. Returns sentences about what could not be shown, such as images that have moved.

    `data` is the experiment file where the data lie elsewhere now, `trust` as for `load`.
    """
    begun, facts = read_begun(run), read_facts(run)
    if begun is None:
        what = "none" if run.is_dir() else "no such folder"
        told = f"expected a RUN folder with experiment.json, found {what}; `heteroseg train` writes one"
        raise HeterosegError(f"{run}: {told}")
    experiment, folder = load_experiment(data) if data else (begun, Path(facts.get("paths start at") or run.resolve()))
    model = load(run / "last", "auto", trust)
    evaluation, notes = read_evaluation(run), []
    if not evaluation["datasets"]:
        notes.append("The run was not evaluated, so there are no scores and no examples.")
    elif not all("confusion" in entry for entry in evaluation["datasets"].values()):
        told = "is of an older version, so confusions and the scores of the tree are not shown"
        hint = f"`heteroseg evaluate {run} --data EXPERIMENT --report FILE` has all."
        notes.append(f"{run / 'evaluation.json'} {told}; {hint}")
    warnings: list[str] = []  # told on the page alone: the terminal had them when the run began
    try:
        sources = open_sources(experiment, folder)
        contents = evaluation_contents(title, model, sources, evaluation, images)
        warnings = [*contents.notes, *(note for source in sources for note in source.notes), *overlaps(sources)]
    except HeterosegError as error:
        notes.append(f"The data could not be read, so there are no pictures and counts: {error.faults[0]}")
        spaces = {n: model.space(e["label_space"]) for n, e in evaluation["datasets"].items()}
        contents = Contents(title, model.taxonomy, spaces, evaluation)
    rows, faulty = read_log(run / "log.csv")
    if faulty:
        notes.append(f"{run / 'log.csv'}: {faulty} lines are damaged, so the curves lack them.")
    contents = replace(
        contents,
        title=title or f"Run {experiment.name}",
        log=rows,
        history=read_evaluations(run),
        settings={"experiment.yaml": yaml_text(experiment.model_dump(mode="json"))},
        facts=facts | {"weights": model.digest},
        repeat=_repeat(experiment, facts),
        notes=[*dict.fromkeys([*notes, *warnings])],
    )
    write_report(out, contents)
    return notes


def _repeat(experiment: Experiment, facts: dict[str, str]) -> list[str]:
    """Shell lines that repeat the run, once the settings of the page are saved under their names."""
    commit = facts.get("commit", "")
    checkout = [f"git checkout {commit.removesuffix('-dirty')}"] if commit and " " not in commit else []
    name = shlex.quote(f"runs/{experiment.name}")
    return [*checkout, f"heteroseg train experiment.yaml --out {name}", f"heteroseg report {name}"]
