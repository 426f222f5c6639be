"""The HTTP endpoint for programs: an image as the body of a POST, JSON or a PNG back."""

import base64
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from heteroseg import __version__
from heteroseg.app.views import (
    TREE,
    Limits,
    Refused,
    Turns,
    View,
    deepest,
    open_image,
    path_at,
    positions,
    space_named,
    spaces,
)
from heteroseg.errors import HeterosegError
from heteroseg.inference import count_labels, encode_ids
from heteroseg.labelspace import LabelSpace
from heteroseg.model import Model, Prediction


class LabelInfo(BaseModel):
    id: int = Field(description="value in the label map")
    name: str
    color: tuple[int, int, int] = Field(description="red, green, blue")


class ModelInfo(BaseModel):
    """What a served model can say."""

    name: str
    digest: str = Field(description="16 hex digits that change with any weight")
    depth: int = Field(description="of the tree: the largest useful `depth`")
    label_spaces: dict[str, list[LabelInfo]]


class FoundLabel(LabelInfo):
    pixels: int
    share: float = Field(description="of the image, 0 to 1")


class Answer(BaseModel):
    """What one image shows. `label_map` is a grey PNG of ids at full size, 8 or 16 bits, in base64."""

    model: str
    label_space: str
    width: int
    height: int
    labels: list[FoundLabel] = Field(description="those that occur, the largest first")
    outside: int = Field(description="pixels that are none of the labels")
    outside_id: int = Field(description="their value in the label map")
    seconds: float = Field(description="of work, without waiting")
    label_map: str


class PathStep(BaseModel):
    node: str
    probability: float
    instead: list[tuple[str, float]] = Field(description="the likeliest other children of its parent")


class PathAnswer(BaseModel):
    """The decided path of one pixel, from the root to a leaf."""

    model: str
    x: int
    y: int
    path: list[PathStep]


class Fault(BaseModel):
    error: str = Field(description="one sentence: what was expected, what came, what to do")


FAULTS: dict[int | str, dict[str, Any]] = {
    404: {"model": Fault, "description": "no such model"},
    413: {"model": Fault, "description": "too large"},
    415: {"model": Fault, "description": "not an image"},
    422: {"model": Fault, "description": "a wrong parameter"},
    429: {"model": Fault, "description": "too many requests are waiting"},
    503: {"model": Fault, "description": "no turn within the time limit"},
}
IMAGE_BODY = {
    "requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


def label_infos(space: LabelSpace) -> list[LabelInfo]:
    return [LabelInfo(id=b.id, name=b.name, color=b.color) for b in space.labels]


def answer(model: str, said: Prediction, view: View, begin: float) -> Answer:
    found, space = positions(said, view)
    counts = count_labels(found, space)
    labels = [
        FoundLabel(**vars(info), pixels=int(counts[i]), share=float(counts[i] / found.size))
        for i, info in enumerate(label_infos(space)) if counts[i]
    ]  # fmt: skip
    return Answer(
        model=model, label_space=space.name, width=found.shape[1], height=found.shape[0],
        labels=sorted(labels, key=lambda b: -b.pixels), outside=int(counts[-1]), outside_id=space.outside,
        label_map=base64.b64encode(encode_ids(found, space)).decode(), seconds=round(time.monotonic() - begin, 4),
    )  # fmt: skip


def build_service(models: Mapping[str, Model], limits: Limits, turns: Turns) -> FastAPI:
    """The endpoint; its OpenAPI document is at /v1/openapi.json (no page that loads scripts from elsewhere)."""
    service = FastAPI(
        title="heteroseg", version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json"
    )
    first = next(iter(models))

    def chosen(name: str) -> Model:
        if name not in models:
            raise Refused(404, f"there is no model {name!r}; there are {', '.join(models)}")
        return models[name]

    async def body(request: Request) -> bytes:
        """Read no more than the limit, whatever the header says."""
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > limits.megabytes * 1e6:
                raise Refused(413, f"the body has more than {limits.megabytes:g} MB; send a smaller image")
        return bytes(data)

    def predict(model: Model, data: bytes) -> Prediction:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image"
            path.write_bytes(data)
            return model.predict(open_image(path, limits))

    @service.exception_handler(HeterosegError)
    async def refused(_: Request, error: HeterosegError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status if isinstance(error, Refused) else 422)

    @service.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = (f"{e['loc'][-1]}: {e['msg'][0].lower()}{e['msg'][1:]}, found {e['input']!r}" for e in error.errors())
        return JSONResponse({"error": "; ".join(faults)}, 422)

    @service.get("/v1/models", responses=FAULTS)
    def list_models() -> list[ModelInfo]:
        """The served models and their label spaces."""
        return [
            ModelInfo(
                name=name, digest=model.digest, depth=deepest(model.taxonomy),
                label_spaces={s: label_infos(space_named(model, s)) for s in spaces(model)},
            )
            for name, model in models.items()
        ]  # fmt: skip

    @service.post(
        "/v1/predict", response_model=Answer, openapi_extra=IMAGE_BODY,
        responses=FAULTS | {200: {"model": Answer, "content": {"image/png": {}}}},
    )  # fmt: skip
    async def predict_image(
        request: Request,
        model: str = first,
        labels: Annotated[str, Query(description=f"a label space, or {TREE!r} for nodes")] = "leaves",
        depth: Annotated[int | None, Query(ge=0, description="cut the tree here; 0 is the root")] = None,
        back_off: Annotated[float, Query(ge=0, le=1, description="stop at the deepest node of this probability")] = 0,
    ) -> Any:
        """Label an image. With `Accept: image/png` the answer is the label map alone."""
        network, data = chosen(model), await body(request)
        view = View(labels, depth, back_off)

        def work() -> Any:
            with turns.one():
                begin = time.monotonic()
                said = predict(network, data)
                if request.headers.get("accept") == "image/png":
                    return Response(encode_ids(*positions(said, view)), media_type="image/png")
                return answer(model, said, view, begin)

        return await run_in_threadpool(work)

    @service.post("/v1/path", openapi_extra=IMAGE_BODY, responses=FAULTS)
    async def path_of_pixel(request: Request, x: int, y: int, model: str = first) -> PathAnswer:
        """How the pixel at column x and row y is decided, from the root down."""
        network, data = chosen(model), await body(request)

        def work() -> PathAnswer:
            with turns.one():
                steps = path_at(predict(network, data), x, y)
            return PathAnswer(model=model, x=x, y=y, path=[PathStep(**asdict(s)) for s in steps])

        return await run_in_threadpool(work)

    return service
