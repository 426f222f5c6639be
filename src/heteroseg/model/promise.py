"""How likely nodes must be, by depth of the tree, for answers to be right as often as was promised."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from heteroseg.errors import HeterosegError, counted, require_between
from heteroseg.files import Strict

if TYPE_CHECKING:
    from heteroseg.model.model import Model

NEVER = 2.0  # no probability reaches it
Least = Annotated[list[Annotated[float, Field(ge=0, le=NEVER)]], Field(max_length=100)]


class Promise(Strict):
    """What `evaluation.promised.fit_promise` found on val images."""

    images: dict[str, Annotated[int, Field(ge=0)]] = Field(description="how many judged, by dataset")
    least: dict[Annotated[float, Field(gt=0, lt=1)], Least] = Field(
        max_length=100, description="by precision: the least probability of a node at depth 1, 2, ...; 2 is never"
    )

    @field_validator("least")
    @classmethod
    def _rising(cls, value: dict[float, list[float]]) -> Any:
        rows = [row for _, row in sorted(value.items())]
        if any(len(a) != len(b) or any(x > y for x, y in zip(a, b, strict=True)) for a, b in pairwise(rows)):
            raise ValueError("expected as many probabilities for each precision, none lower for a higher precision")
        return value


def least_of(model: "Model", precision: float) -> list[float]:
    """The least probability of a node at depth 1, 2, ... for answers that are right that often.

    0 asks for nothing, and 1 for nodes that are certain. A MODEL without a promise, one that cannot promise so much,
    and numbers that are not from 0 to 1 raise HeterosegError.
    """
    require_between("precision", precision, 0, 1)
    depth = max(model.taxonomy.depths)
    if model.promise is None:
        told = "this MODEL was never calibrated, so it can promise no precision"
        raise HeterosegError(f"{told}; `heteroseg calibrate MODEL --data EXPERIMENT --out MODEL2` writes one that can")
    if precision == 0:
        return [0.0] * depth
    known = sorted(model.promise.least.items())
    if precision == 1:
        return [max(1.0, p) for p in known[-1][1]] if known else [NEVER] * depth
    if fit := next((row for promised, row in known if promised >= precision), None):
        return fit
    images = counted(sum(model.promise.images.values()), "val image")
    told = f"precision: this MODEL was calibrated on {images} that judge, which is enough to promise"
    most = f"{known[-1][0]:g} at most" if known else "nothing"
    raise HeterosegError(f"{told} {most}, found {precision:g}; ask for less, or calibrate with more val images")
