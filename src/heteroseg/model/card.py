"""The model card: README.md of a MODEL folder that is handed on, filled in from the run that made it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment, ModelConfig
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy

VERSIONS = ("commit", "machine", "training seconds", "python", "heteroseg", "torch", "transformers")


@dataclass(frozen=True)
class History:
    """What a run knows about a model: its experiment, the scores of just these weights, the machine and versions."""

    experiment: Experiment
    scores: dict[str, Any]
    facts: dict[str, str]


def _mean_miou(evaluation: dict[str, Any]) -> float:
    values = [d["miou"] for d in evaluation["datasets"].values() if d["miou"] is not None]
    return sum(values) / len(values) if values else 0.0


def read_history(folder: Path) -> History | None:
    """The history of the MODEL `RUN/last` or `RUN/best`; None for a MODEL folder that lies alone."""
    run = folder.resolve().parent
    if folder.resolve().name not in ("last", "best") or not (run / "experiment.json").is_file():
        return None
    try:
        experiment = Experiment.model_validate_json((run / "experiment.json").read_text(encoding="utf-8"))
        all_scores = [json.loads(f.read_text(encoding="utf-8")) for f in sorted((run / "evaluation").glob("*.json"))]
        known = run / "facts.json"
        facts = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    except ValueError as error:
        raise HeterosegError(f"{run}: a file of the run is damaged, {str(error).splitlines()[0]}") from None
    if not all_scores:
        return History(experiment, {}, facts)
    scores = all_scores[-1] if folder.resolve().name == "last" else max(all_scores, key=_mean_miou)  # max: the first
    return History(experiment, scores["datasets"], facts)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _cell(text: object) -> str:
    """Text that cannot end a cell of a Markdown table or become HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def model_card(
    name: str,
    taxonomy: Taxonomy,
    spaces: dict[str, LabelSpace],
    config: ModelConfig,
    parameters: int,
    history: History | None,
    license: str | None = None,
) -> str:
    """The card as Markdown with metadata by huggingface_hub's conventions; `license` is that of the weights."""
    from huggingface_hub import EvalResult, ModelCardData

    scores = history.scores if history else {}
    results = [
        EvalResult(
            task_type="image-segmentation", dataset_type=dataset, dataset_name=f"{dataset} (val, {d['label_space']})",
            metric_type=kind, metric_name=title, metric_value=round(100 * d[key], 2),
        )
        for dataset, d in scores.items()
        for key, kind, title in (("miou", "mean_iou", "mIoU"), ("acc", "accuracy", "pixel accuracy"))
        if d[key] is not None
    ]  # fmt: skip
    data = ModelCardData(
        license=license, library_name="heteroseg", pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "hierarchical-classification"],
        model_name=name if results else None, eval_results=results or None,
    )  # fmt: skip
    environment = Environment(loader=PackageLoader("heteroseg"), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)  # fmt: skip
    environment.filters |= {"percent": _percent, "cell": _cell}
    facts = history.facts if history else {}
    return environment.get_template("card.md").render(
        metadata=data.to_yaml(), name=name, taxonomy=taxonomy, spaces=spaces, config=config, parameters=parameters,
        license=license, scores=scores, experiment=history.experiment if history else None,
        facts={key: facts[key] for key in VERSIONS if key in facts},
    )  # fmt: skip
