"""The model card: README.md of a MODEL folder that is handed on, filled in from the run that made it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heteroseg.files import fill_template
from heteroseg.model.run_folder import OLD, read_begun, read_evaluations, read_facts

if TYPE_CHECKING:
    from heteroseg.model.model import Model

VERSIONS = ("commit", "machine", "training seconds", "python", "heteroseg", "torch", "transformers")


def score_of(evaluation: dict[str, Any], by: str) -> float:
    """The score by which `best/` is chosen: a mean over datasets, or that of one as NAME/miou; 0 if there is none."""
    name, _, metric = by.rpartition("/")
    of = [d for dataset, d in evaluation["datasets"].items() if name in ("", dataset)]
    values = [d[metric] for d in of if d[metric] is not None]
    return sum(values) / len(values) if values else 0.0


def read_history(folder: Path) -> dict[str, Any] | None:
    """What a run knows about its MODEL `RUN/last` or `RUN/best`; None for a MODEL folder that lies alone.

    `experiment` is the Experiment, `scores` are those of just these weights by dataset, `facts` tell the machine and
    the versions.
    """
    run, name = folder.resolve().parent, folder.resolve().name.removeprefix(OLD)
    experiment = read_begun(run) if name in ("last", "best") else None
    if experiment is None:
        return None
    evaluations = [evaluation for _, evaluation in read_evaluations(run)] or [{"datasets": {}}]
    scores = evaluations[-1] if name == "last" else max(evaluations, key=lambda e: score_of(e, experiment.train.best))
    return {"experiment": experiment, "scores": scores["datasets"], "facts": read_facts(run)}


def _cell(text: object) -> str:
    """Text that cannot end a cell of a Markdown table or become HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def model_card(model: "Model", license: str | None) -> str:
    """The card as Markdown with metadata by huggingface_hub's conventions; `license` is that of the weights."""
    from huggingface_hub import EvalResult, ModelCardData

    history = (model.origin and read_history(model.origin)) or {"experiment": None, "scores": {}, "facts": {}}
    results = []
    for dataset, d in history["scores"].items():
        place = {"dataset_type": dataset, "dataset_name": f"{dataset} (val, {d['label_space']})"}
        for key, kind, title in (("miou", "mean_iou", "mIoU"), ("acc", "accuracy", "pixel accuracy")):
            if d[key] is not None:
                metric = {"metric_type": kind, "metric_name": title, "metric_value": round(100 * d[key], 2)}
                results.append(EvalResult(task_type="image-segmentation", **place, **metric))
    about: dict[str, Any] = {"license": license, "library_name": "heteroseg", "pipeline_tag": "image-segmentation"}
    about |= {"model_name": model.name, "eval_results": results} if results else {}
    data = ModelCardData(tags=["semantic-segmentation", "hierarchical-classification"], **about)
    parameters = sum(p.numel() for p in model.torch_network.parameters())
    facts = {key: history["facts"][key] for key in VERSIONS if key in history["facts"]}
    values = history | {"facts": facts, "metadata": data.to_yaml(), "license": license, "parameters": parameters}
    values |= {"model": model, "own": model.config.backbone.partition("python:")[2]}
    return fill_template("card.md", values, cell=_cell)
