"""The model card: README.md of a MODEL folder that is handed on, filled in from the run that made it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment

if TYPE_CHECKING:
    from heteroseg.model.model import Model

VERSIONS = ("commit", "machine", "training seconds", "python", "heteroseg", "torch", "transformers")


@dataclass(frozen=True)
class History:
    """What a run knows about a model: its experiment, the scores of just these weights, the machine and versions."""

    experiment: Experiment | None
    scores: dict[str, Any]
    facts: dict[str, str]


def _mean_miou(evaluation: dict[str, Any]) -> float:
    values = [d["miou"] for d in evaluation["datasets"].values() if d["miou"] is not None]
    return sum(values) / len(values) if values else 0.0


def read_history(folder: Path) -> History | None:
    """The history of the MODEL `RUN/last` or `RUN/best`; None for a MODEL folder that lies alone."""
    folder = folder.resolve()
    run, facts_file = folder.parent, folder.parent / "facts.json"
    if folder.name not in ("last", "best") or not (run / "experiment.json").is_file():
        return None
    try:
        experiment = Experiment.model_validate_json((run / "experiment.json").read_text(encoding="utf-8"))
        all_scores = [json.loads(f.read_text(encoding="utf-8")) for f in sorted((run / "evaluation").glob("*.json"))]
        facts = json.loads(facts_file.read_text(encoding="utf-8")) if facts_file.is_file() else {}
    except ValueError as error:
        raise HeterosegError(f"{run}: a file of the run is damaged, {str(error).splitlines()[0]}") from None
    all_scores = all_scores or [{"datasets": {}}]
    scores = all_scores[-1] if folder.name == "last" else max(all_scores, key=_mean_miou)  # max: the first
    return History(experiment, scores["datasets"], facts)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _cell(text: object) -> str:
    """Text that cannot end a cell of a Markdown table or become HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def model_card(model: "Model", license: str | None) -> str:
    """The card as Markdown with metadata by huggingface_hub's conventions; `license` is that of the weights."""
    from huggingface_hub import EvalResult, ModelCardData

    history = (model.origin and read_history(model.origin)) or History(None, {}, {})
    results = [
        EvalResult(
            task_type="image-segmentation", dataset_type=dataset, dataset_name=f"{dataset} (val, {d['label_space']})",
            metric_type=kind, metric_name=title, metric_value=round(100 * d[key], 2),
        )
        for dataset, d in history.scores.items()
        for key, kind, title in (("miou", "mean_iou", "mIoU"), ("acc", "accuracy", "pixel accuracy"))
        if d[key] is not None
    ]  # fmt: skip
    data = ModelCardData(
        license=license, library_name="heteroseg", pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "hierarchical-classification"],
        model_name=model.name if results else None, eval_results=results or None,
    )  # fmt: skip
    environment = Environment(loader=PackageLoader("heteroseg"), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)  # fmt: skip
    environment.filters |= {"percent": _percent, "cell": _cell}
    return environment.get_template("card.md").render(
        metadata=data.to_yaml(), model=model, license=license, scores=history.scores, experiment=history.experiment,
        parameters=sum(p.numel() for p in model.torch_network.parameters()),
        facts={key: history.facts[key] for key in VERSIONS if key in history.facts},
    )  # fmt: skip
