"""heteroseg: one segmentation network trained on many datasets with different labels."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heteroseg.decisions.flat import decode_logits as decode_logits
    from heteroseg.decisions.reference import label_map as label_map
    from heteroseg.errors import HeterosegError as HeterosegError
    from heteroseg.evaluation.scores import evaluate as evaluate
    from heteroseg.experiment.config import Experiment as Experiment
    from heteroseg.experiment.config import load_experiment as load_experiment
    from heteroseg.labels.space import LabelSpace as LabelSpace
    from heteroseg.labels.space import load_label_space as load_label_space
    from heteroseg.labels.taxonomy import Taxonomy as Taxonomy
    from heteroseg.labels.taxonomy import load_taxonomy as load_taxonomy
    from heteroseg.model.model import Model as Model
    from heteroseg.model.model import load as load
    from heteroseg.model.prediction import Prediction as Prediction
    from heteroseg.networks.classifier import replace_classifier as replace_classifier
    from heteroseg.networks.heads import HierarchicalHead as HierarchicalHead
    from heteroseg.supervision.label_terms import build_terms as build_terms
    from heteroseg.supervision.loss import hierarchical_loss as hierarchical_loss
    from heteroseg.training.loop import train as train

__version__ = "0.1.0"

# The public API, and where each name is defined. Imported when it is first asked for: `import heteroseg` stays quick.
_HOMES = {
    "load": "model.model",
    "Model": "model.model",
    "Prediction": "model.prediction",
    "train": "training.loop",
    "evaluate": "evaluation.scores",
    "load_experiment": "experiment.config",
    "Experiment": "experiment.config",
    "Taxonomy": "labels.taxonomy",
    "load_taxonomy": "labels.taxonomy",
    "LabelSpace": "labels.space",
    "load_label_space": "labels.space",
    "HierarchicalHead": "networks.heads",
    "replace_classifier": "networks.classifier",
    "build_terms": "supervision.label_terms",
    "hierarchical_loss": "supervision.loss",
    "label_map": "decisions.reference",
    "decode_logits": "decisions.flat",
    "HeterosegError": "errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'heteroseg' has no attribute {name!r}")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch reads it: threads that wait take no core from others
    return getattr(import_module(f"heteroseg.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
