"""heteroseg: one segmentation network trained on many datasets with different labels."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]

if TYPE_CHECKING:
    from heteroseg.model.model import Model, load


def __getattr__(name: str):
    if name in ("Model", "load"):  # torch is imported only when a model is
        from heteroseg.model import model

        return getattr(model, name)
    raise AttributeError(f"module 'heteroseg' has no attribute {name!r}")
