"""The HTTP endpoint, for the page and for programs: bytes of an image as the body of a POST, JSON or a picture back."""

import asyncio
import base64
import json
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from heteroseg import __version__
from heteroseg.app.answers import (
    TREE,
    Step,
    View,
    film,
    image_size,
    label_indices,
    open_image,
    path_at,
    recolored,
    space_named,
    spaces,
)
from heteroseg.app.bounds import EFFORT, Effort, Refused, Turns, check_effort
from heteroseg.errors import HeterosegError, nearest, warn
from heteroseg.model.answer_files import count_labels, encode_ids
from heteroseg.model.exported import ExportedNetwork
from heteroseg.model.model import SHIPPED, Model
from heteroseg.model.prediction import Prediction
from heteroseg.model.views import views_of, views_text
from heteroseg.scenes import draw_scene

QUICK, BACK_OFF = 0.6, 10  # megapixels of quick work, and what each costs where the tree is walked down


class LabelInfo(BaseModel):
    id: int = Field(description="value in the label map")
    name: str
    color: tuple[int, int, int] = Field(description="red, green, blue")


class ModelInfo(BaseModel):
    """What a served model can say."""

    name: str
    digest: str = Field(description="16 hex digits that change with any weight")
    depth: int = Field(description="of the tree: the largest useful `depth`")
    megapixels: float = Field(description="of the largest image that is taken")
    seconds: float = Field(description="of work for one request, at most")
    tta: str = Field(description="scales, and flip, in which every image is looked at; empty: once")
    precisions: list[float] = Field(description="that answers of the tree can be promised, after `heteroseg calibrate`")
    precision: float = Field(description="of the tree, where neither precision nor back_off is asked for; 0: none")
    examples: int = Field(description="drawn scenes at /v1/example/NUMBER, for networks of the demo; else 0")
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


class PathAnswer(BaseModel):
    """The decided path of one pixel, from the root to a leaf."""

    model: str
    x: int
    y: int
    path: list[Step]


class Asked(BaseModel):
    """What goes with every image."""

    model_config = ConfigDict(extra="forbid")  # a parameter that is misspelt must not be passed over
    model: str | None = Field(None, description="name of a served model; default: the first")


class MapLabels(View, Asked):
    packed: bool = Field(False, description="label_map is zlib of 16-bit ids (little endian, by row) instead of a PNG")


class FilmLabels(View, Asked):
    colors: str | None = Field(None, description="equal names take the colours of this label space of the first model")


class Pixel(Asked):
    x: int = Field(description="column from the left, from 0")
    y: int = Field(description="row from the top, from 0")


class Fault(BaseModel):
    error: str = Field(description="one sentence: what was expected, what came, what to do")


FAULTS: dict[int | str, dict[str, Any]] = {
    403: {"model": Fault, "description": "asked by another page"},
    404: {"model": Fault, "description": "no such model"},
    405: {"model": Fault, "description": "another method is meant"},
    408: {"model": Fault, "description": "the body did not come within the time limit"},
    413: {"model": Fault, "description": "too large"},
    415: {"model": Fault, "description": "not an image or a video"},
    421: {"model": Fault, "description": "another host is meant"},
    422: {"model": Fault, "description": "a wrong parameter"},
    429: {"model": Fault, "description": "too many requests are waiting"},
    503: {"model": Fault, "description": "no turn within the time limit, or the work took longer"},
}
BYTES: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
BYTES["requestBody"]["content"]["application/octet-stream"]["schema"] = {"type": "string", "format": "binary"}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
WEBM: dict[int | str, dict[str, Any]] = {200: {"content": {"video/webm": {}}}}
EXAMPLES = 4  # drawn scenes


def sentence(fault: Mapping[str, Any]) -> str:
    """A fault that pydantic found in the parameters."""
    name = fault["loc"][-1]
    if fault["type"] == "extra_forbidden":
        known = [*MapLabels.model_fields, *FilmLabels.model_fields, *Pixel.model_fields]
        return f"there is no parameter {name!r} here{nearest(name, known)}; see /v1/openapi.json"
    return f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r:.80}"


def answer(model: str, prediction: Prediction, asked: MapLabels, begin: float) -> Answer:
    """The answer to one image; `begin` is the time when the work for it began."""
    indices, space = label_indices(prediction, asked)
    counts = count_labels(indices, space)
    labels = [
        FoundLabel(**vars(label), pixels=int(count), share=float(count / indices.size))
        for label, count in zip(space.labels, counts[:-1], strict=True)
        if count
    ]
    packed = zlib.compress(space.native_ids(indices).astype("<u2").tobytes(), 1) if asked.packed else None
    return Answer(
        model=model,
        label_space=space.name,
        width=indices.shape[1],
        height=indices.shape[0],
        labels=sorted(labels, key=lambda label: -label.pixels),
        outside=int(counts[-1]),
        outside_id=space.outside,
        seconds=round(time.monotonic() - begin, 4),
        label_map=base64.b64encode(packed or encode_ids(indices, space)).decode(),
    )


class Desk:
    """Where requests wait for their turn, quick and slow work in lanes of their own. Bodies are bytes, never files."""

    def __init__(self, models: Mapping[str, Model], turns: Turns, precision: float):
        self.models, self.turns, self.slow, self.limits = models, turns, Turns(turns.limits), turns.limits
        self.efforts: set[Effort] = set()  # of what is at work or waits for its turn
        self.precision = precision  # of the tree, where nothing else is asked for
        scales, mirrored = views_of(next(iter(models.values())).tta)
        self.looks = sum(scale**2 for scale in scales) * (1 + mirrored)  # at the pixels of an image
        self.open = True
        # whoever looks at an image asks for it again and again: memory is that of one image for each model
        self.predict = lru_cache(maxsize=len(models))(self._predict)
        for model in models.values():
            if isinstance(model.network, ExportedNetwork):
                model.network.between = check_effort
                continue
            for part in model.network.modules():
                part.register_forward_pre_hook(check_effort)

    def _predict(self, name: str, body: bytes) -> Prediction:
        return self.models[name].predict(open_image(body, self.limits))

    def close(self) -> None:
        """Stop what is at work and what may still come."""
        self.open = False
        for effort in list(self.efforts):
            effort.wanted = False

    def look_down(self, asked: View) -> float:
        """What the promise of the server adds to what is asked for, and how much a pixel costs then."""
        if asked.labels == TREE and asked.precision is None and not asked.back_off:
            asked.precision = self.precision
        return BACK_OFF if asked.back_off or asked.precision else 1

    def name(self, asked: Asked) -> str:
        name = asked.model or next(iter(self.models))
        if name not in self.models:
            raise Refused(404, f"there is no model {name!r:.80}; there are {', '.join(self.models)}")
        return name

    async def body(self, request: Request) -> bytes:
        """The whole body. It holds no place while it comes, and no more of it than the limit is read."""
        body, most, seconds = bytearray(), self.limits.megabytes * 1e6, self.limits.seconds
        large = Refused(413, f"the body has more than {self.limits.megabytes:g} MB; send a smaller one")
        if int(request.headers.get("content-length", 0)) > most:
            raise large
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise large
        except TimeoutError:
            raise Refused(408, f"the body did not come within {seconds:g} seconds; send it again") from None
        return bytes(body)

    async def look_at(self, request: Request, work: Callable[[bytes], Any], cost: float = 1) -> Any:
        """What `work` makes of an image, when its turn comes; `cost` is that of a pixel."""
        body = await self.body(request)
        megapixels = await run_in_threadpool(image_size, body, self.limits)
        lane = self.slow if megapixels * self.looks * cost > QUICK else self.turns
        return await self.in_turn(request, lambda: work(body), lane)

    async def in_turn(self, request: Request, work: Callable[[], Any], lane: Turns) -> Any:
        """What `work` makes, when its turn comes; it stops when its client has gone."""
        effort = Effort(self.limits.seconds)
        EFFORT.set(effort)
        effort.wanted = self.open
        self.efforts.add(effort)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                await asyncio.sleep(1)
            effort.wanted = False

        watching = asyncio.create_task(watch())
        try:
            with lane.place():
                return await run_in_threadpool(lane.turn()(work))
        finally:
            self.efforts.discard(effort)
            watching.cancel()


def add_faults(service: FastAPI) -> None:
    """Every fault is answered with one sentence."""

    @service.exception_handler(HeterosegError)
    async def refused(_: Request, error: HeterosegError) -> JSONResponse:
        if isinstance(error, Refused):
            return JSONResponse({"error": str(error)}, error.status)
        warn(str(error))  # a full disk: it names files of this machine
        return JSONResponse({"error": "the server is in trouble, which its output tells; try again later"}, 503)

    @service.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "; ".join(map(sentence, error.errors()))}, 422)

    @service.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

    @service.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        fault = f"there is no {request.method} {request.url.path:.80}; see /v1/openapi.json"
        return JSONResponse({"error": fault}, error.status_code, error.headers)


def add_answers(service: FastAPI, desk: Desk) -> None:
    """What is asked about an image or a video."""

    @service.post("/v1/predict", response_model=Answer, openapi_extra=BYTES, responses=PNG)
    async def predict_image(request: Request, asked: Annotated[MapLabels, Query()]) -> Any:
        """Label an image. With `Accept: image/png` the answer is the label map alone."""
        name, cost = desk.name(asked), desk.look_down(asked)
        kind = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()

        def work(body: bytes) -> Any:
            begin = time.monotonic()
            prediction = desk.predict(name, body)
            if kind == "image/png":
                return Response(encode_ids(*label_indices(prediction, asked)), media_type="image/png")
            return answer(name, prediction, asked, begin)

        return await desk.look_at(request, work, cost)

    @service.post("/v1/path", openapi_extra=BYTES)
    async def path_of_pixel(request: Request, asked: Annotated[Pixel, Query()]) -> PathAnswer:
        """How the pixel at column x and row y is decided, from the root down."""
        name = desk.name(asked)
        path = await desk.look_at(request, lambda body: path_at(desk.predict(name, body), asked.x, asked.y))
        return PathAnswer(model=name, x=asked.x, y=asked.y, path=path)

    @service.post("/v1/picture", openapi_extra=BYTES, response_class=Response, responses=PNG)
    async def picture(request: Request) -> Response:
        """The image as a PNG, upright: for browsers, which do not show PPM or TIFF."""

        def work(body: bytes) -> np.ndarray:
            return cv2.imencode(".png", open_image(body, desk.limits)[..., ::-1])[1]

        encoded = await desk.look_at(request, work)
        return Response(encoded.tobytes(), media_type="image/png")

    @service.post("/v1/film", openapi_extra=BYTES, response_class=Response, responses=WEBM)
    async def label_film(request: Request, asked: Annotated[FilmLabels, Query()]) -> Response:
        """The video under the colours of its labels, as WebM; `heteroseg-frames` tells how far the time went,
        `heteroseg-labels` the names and colours of what is most in it, as JSON."""
        model = desk.models[desk.name(asked)]
        desk.look_down(asked)
        space = space_named(model, asked.labels)
        if asked.colors is not None:
            first = next(iter(desk.models.values()))
            space = recolored(space, {b.name: b.color for b in space_named(first, asked.colors).labels})

        body = await desk.body(request)

        def work() -> Response:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "overlay.webm"
                frames, found = film(model, body, target, asked, space, desk.limits)
                told = {"heteroseg-frames": frames, "heteroseg-labels": json.dumps(found)}
                return Response(target.read_bytes(), media_type="video/webm", headers=told)

        return await desk.in_turn(request, work, desk.slow)


def build_service(models: Mapping[str, Model], turns: Turns, root_path: str = "", precision: float = 0) -> FastAPI:
    """The endpoint; its OpenAPI document is at /v1/openapi.json (no page that loads scripts from elsewhere)."""
    settings: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": "/v1/openapi.json"}
    settings |= {"redirect_slashes": False, "root_path": root_path}
    service = FastAPI(title="heteroseg", version=__version__, responses=FAULTS, **settings)

    told = [
        ModelInfo(
            name=name,
            digest=model.digest,
            depth=max(model.taxonomy.depths),
            megapixels=turns.limits.megapixels,
            seconds=turns.limits.seconds,
            tta=views_text(views_of(model.tta)),
            precisions=sorted(model.promise.least) if model.promise else [],
            precision=precision,
            examples=EXAMPLES if model.name == SHIPPED.name else 0,
            label_spaces={s: [LabelInfo(**vars(b)) for b in space_named(model, s).labels] for s in spaces(model)},
        )
        for name, model in models.items()
    ]

    @service.get("/v1/models")
    async def list_models() -> list[ModelInfo]:
        """The served models and their label spaces."""
        return told

    @service.get("/v1/example/{number}", response_class=Response, responses=PNG)
    def example(number: Annotated[int, InPath(ge=0, lt=EXAMPLES)]) -> Response:
        """A drawn street scene as a PNG, always the same for a number."""
        image = draw_scene(np.random.default_rng([8, number]), (288, 576)).image
        return Response(cv2.imencode(".png", image[..., ::-1])[1].tobytes(), media_type="image/png")

    desk = Desk(models, turns, precision)
    service.state.close = desk.close
    add_answers(service, desk)
    add_faults(service)
    return service
