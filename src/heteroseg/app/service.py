"""The HTTP endpoint for programs: an image as the body of a POST, JSON or a PNG back."""

import asyncio
import base64
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heteroseg import __version__
from heteroseg.app.answers import (
    TREE,
    Limits,
    Refused,
    Turns,
    View,
    deepest,
    label_indices,
    open_image,
    path_at,
    space_named,
    spaces,
)
from heteroseg.errors import HeterosegError, nearest
from heteroseg.inference.files import count_labels, encode_ids
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction


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


class Asked(BaseModel):
    """What goes with every image."""

    model_config = ConfigDict(extra="forbid")  # a parameter that is misspelt must not be passed over
    model: str | None = Field(None, description="name of a served model; default: the first")


class Labels(Asked):
    labels: str = Field("leaves", description=f"a label space, or {TREE!r} for nodes")
    depth: int | None = Field(None, ge=0, description=f"with {TREE!r}: cut it here; 0 is the root")
    back_off: float = Field(0, ge=0, le=1, description=f"with {TREE!r}: stop at the deepest node of this probability")


class Pixel(Asked):
    x: int = Field(description="column from the left, from 0")
    y: int = Field(description="row from the top, from 0")


class Fault(BaseModel):
    error: str = Field(description="one sentence: what was expected, what came, what to do")


FAULTS: dict[int | str, dict[str, Any]] = {
    404: {"model": Fault, "description": "no such model"},
    408: {"model": Fault, "description": "the body did not come within the time limit"},
    413: {"model": Fault, "description": "too large"},
    415: {"model": Fault, "description": "not an image"},
    422: {"model": Fault, "description": "a wrong parameter"},
    429: {"model": Fault, "description": "too many requests are waiting"},
    503: {"model": Fault, "description": "no turn within the time limit"},
}
FRAME = 2**16  # bytes that a form takes beside the file in it
IMAGE_BODY = {
    "requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


class Bounded:
    """Reads no more of a body than the limit, whatever its header says; the uploads of the page are bounded too."""

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limits.megabytes * 1e6 + FRAME:
                raise Refused(413, f"the body has more than {self.limits.megabytes:g} MB; send a smaller one")
            return message

        await self.app(scope, counted, send)


def sentence(fault: Mapping[str, Any]) -> str:
    """A fault that pydantic found in the parameters."""
    name = fault["loc"][-1]
    if fault["type"] == "extra_forbidden":
        known = [*Labels.model_fields, *Pixel.model_fields]
        return f"there is no parameter {name!r} here{nearest(name, known)}; see /v1/openapi.json"
    return f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"


def label_infos(space: LabelSpace) -> list[LabelInfo]:
    return [LabelInfo(id=b.id, name=b.name, color=b.color) for b in space.labels]


def answer(model: str, prediction: Prediction, view: View, begin: float) -> Answer:
    indices, space = label_indices(prediction, view)
    counts = count_labels(indices, space)
    labels = [
        FoundLabel(**vars(info), pixels=int(counts[i]), share=float(counts[i] / indices.size))
        for i, info in enumerate(label_infos(space)) if counts[i]
    ]  # fmt: skip
    return Answer(
        model=model, label_space=space.name, width=indices.shape[1], height=indices.shape[0],
        labels=sorted(labels, key=lambda b: -b.pixels), outside=int(counts[-1]), outside_id=space.outside,
        label_map=base64.b64encode(encode_ids(indices, space)).decode(), seconds=round(time.monotonic() - begin, 4),
    )  # fmt: skip


def build_service(models: Mapping[str, Model], limits: Limits, turns: Turns) -> FastAPI:
    """The endpoint; its OpenAPI document is at /v1/openapi.json (no page that loads scripts from elsewhere)."""
    service = FastAPI(
        title="heteroseg", version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json"
    )
    service.add_middleware(Bounded, limits=limits)

    async def answered(request: Request, asked: Asked, work: Callable[[str, Prediction, float], Any]) -> Any:
        """What `work` makes of the name of the model, its prediction for the image in the body, and when it began."""
        name = asked.model or next(iter(models))
        if name not in models:
            raise Refused(404, f"there is no model {name!r}; there are {', '.join(models)}")

        def in_turn(data: bytes) -> Any:
            with tempfile.TemporaryDirectory() as folder, turns.turn():
                begin, path = time.monotonic(), Path(folder) / "image"
                path.write_bytes(data)
                return work(name, models[name].predict(open_image(path, limits)), begin)

        with turns.place():
            try:
                async with asyncio.timeout(limits.seconds):
                    data = await request.body()
            except TimeoutError:
                raise Refused(408, f"the body did not come within {limits.seconds:g} seconds; send it again") from None
            return await run_in_threadpool(in_turn, data)

    @service.exception_handler(HeterosegError)
    async def refused(_: Request, error: HeterosegError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status if isinstance(error, Refused) else 422)

    @service.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "; ".join(map(sentence, error.errors()))}, 422)

    @service.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

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
    async def predict_image(request: Request, asked: Annotated[Labels, Query()]) -> Any:
        """Label an image. With `Accept: image/png` the answer is the label map alone."""
        view = View(asked.labels, asked.depth, asked.back_off)
        kind = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()

        def work(name: str, prediction: Prediction, begin: float) -> Any:
            if kind == "image/png":
                return Response(encode_ids(*label_indices(prediction, view)), media_type="image/png")
            return answer(name, prediction, view, begin)

        return await answered(request, asked, work)

    @service.post("/v1/path", openapi_extra=IMAGE_BODY, responses=FAULTS)
    async def path_of_pixel(request: Request, asked: Annotated[Pixel, Query()]) -> PathAnswer:
        """How the pixel at column x and row y is decided, from the root down."""

        def work(name: str, prediction: Prediction, _: float) -> PathAnswer:
            steps = path_at(prediction, asked.x, asked.y)
            return PathAnswer(model=name, x=asked.x, y=asked.y, path=[PathStep(**asdict(s)) for s in steps])

        return await answered(request, asked, work)

    @service.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    def unknown(request: Request) -> None:
        raise Refused(404, f"there is no {request.method} {request.url.path}; see /v1/openapi.json")

    return service
