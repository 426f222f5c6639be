"""The page for people, in gradio: one column of pictures for each model, the same controls for all."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is told to anybody; both are read when gradio is imported
os.environ["GRADIO_RUN_HISTORY"] = "False"  # nor are pictures kept in the browser or offered to a hub

import cv2
import gradio as gr
import numpy as np
from fastapi import FastAPI

from heteroseg.app.answers import (
    TREE,
    Limits,
    Step,
    Turns,
    View,
    deepest,
    film,
    label_indices,
    open_image,
    path_at,
    recolored,
    space_named,
    spaces,
)
from heteroseg.app.service import build_service
from heteroseg.errors import HeterosegError
from heteroseg.inference.files import count_labels
from heteroseg.inference.pictures import colorise, overlay, share_text
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Color
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction

KEPT = 4  # images whose answers are kept for looking at them; others are worked out again
FILES_KEPT = 3600  # seconds
SHOWN_BY_BROWSERS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"}
SHOWN = 24  # labels in the list under a picture
CSS = """
footer { display: none !important; }
#film [aria-label^=Trim] { display: none; }
[id^=answer-] img { cursor: crosshair; }
.found table { font-size: .9rem; } .found td, .found th { padding: .1rem .6rem !important; }
.swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid #8888; margin-right: .4em; }
"""


def told(work: Callable[..., Any]) -> Callable[..., Any]:
    """Faults as a message on the page."""

    @wraps(work)  # gradio reads the annotations
    def wrapped(*args: Any) -> Any:
        try:
            return work(*args)
        except HeterosegError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None

    return wrapped


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def label_table(indices: np.ndarray, space: LabelSpace) -> str:
    """What occurs, the largest first, as HTML."""
    counts = count_labels(indices, space)
    order = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i]]
    rows = []
    for i in order[:SHOWN]:
        name, color = (space.labels[i].name, space.labels[i].color) if i < len(space.labels) else ("outside", (22,) * 3)
        box = f'<i class="swatch" style="background:rgb{tuple(color)}"></i>'
        rows.append(f"<tr><td>{box}{escaped(name)}</td><td>{share_text(float(counts[i] / indices.size))}</td></tr>")
    more = f"<p>and {len(order) - SHOWN} more</p>" if len(order) > SHOWN else ""
    return f'<div class="found"><table>{"".join(rows)}</table>{more}</div>'


def path_table(steps: list[Step], x: int, y: int) -> str:
    """The path of a pixel as HTML."""
    rows = []
    for depth, step in enumerate(steps):
        others = ", ".join(f"{escaped(name)} {share_text(p)}" for name, p in step.instead)
        rows.append(
            f"<tr><td>{depth}</td><td>{'&nbsp;' * 2 * depth}<b>{escaped(step.node)}</b></td>"
            f"<td>{share_text(step.probability)}</td><td>{others}</td></tr>"
        )
    head = "<tr><th>depth</th><th>node</th><th>probability</th><th>instead</th></tr>"
    return f'<div class="found"><p>Pixel x {x}, y {y}</p><table>{head}{"".join(rows)}</table></div>'


def as_it_is(payload: Any) -> Any:
    """The path of an upload; gradio would open and convert the image, without our bounds and our messages."""
    return payload and payload.path


def build_page(models: Mapping[str, Model], limits: Limits, turns: Turns) -> gr.Blocks:
    """Image or video in, for each model: the picture under its labels, what occurs, and the path of a clicked pixel."""

    @lru_cache(maxsize=KEPT)
    def seen(path: str) -> tuple[np.ndarray, list[Prediction]]:
        """An uploaded image, whose path tells its content, and what each network says: memory is that of a few images,
        however many people look."""
        image = open_image(Path(path), limits)
        return image, [model.predict(image) for model in models.values()]

    def shown_as(names: Sequence[str]) -> list[LabelSpace]:
        """What each picture is painted in: equal names have equal colours in all of them."""
        result: list[LabelSpace] = []
        colors: dict[str, Color] = {}
        for model, name in zip(models.values(), names, strict=True):
            result.append(recolored(space_named(model, name), colors))
            colors |= {b.name: b.color for b in result[-1].labels}
        return result

    @told
    def show(path: str | None, alpha: float, depth: float, min_probability: float, *names: str) -> list[Any]:
        if path is None:
            return [None, ""] * len(models)
        result: list[Any] = []
        with turns.place(), turns.turn():
            image, predictions = seen(path)
            for prediction, labels, space in zip(predictions, names, shown_as(names), strict=True):
                view = View(labels, int(depth), min_probability) if labels == TREE else View(labels)
                indices = label_indices(prediction, view)[0]
                result += [overlay(image, colorise(indices, space), alpha), label_table(indices, space)]
        return result

    @told
    def viewable(path: str | None) -> str | None:
        """The upload, or a PNG beside it where browsers do not show its format, such as PPM or TIFF."""
        if path is None or Path(path).suffix.lower() in SHOWN_BY_BROWSERS:
            return path  # gr.skip() would have gradio make the component anew, without our preprocess
        copy = Path(path).with_suffix(".png")
        with turns.place(), turns.turn():
            cv2.imwrite(str(copy), open_image(Path(path), limits)[..., ::-1])
        return str(copy)

    @told
    def point(path: str | None, event: gr.SelectData) -> list[str]:
        if path is None:
            return [""] * len(models)
        x, y = (int(v) for v in event.index)
        with turns.place(), turns.turn():
            return [path_table(path_at(one, x, y), x, y) for one in seen(path)[1]]

    @told
    def play(path: str | None, depth: float, min_probability: float, *names: str) -> list[Any]:
        if path is None:
            return [None, ""] * len(models)
        result: list[Any] = []
        shared = replace(limits, seconds=limits.seconds / len(models))
        with turns.place(), turns.turn():
            for model, labels, space in zip(models.values(), names, shown_as(names), strict=True):
                target = Path(tempfile.mkdtemp(dir=Path(path).parent)) / "overlay.webm"  # goes with the upload
                view = View(labels, int(depth), min_probability) if labels == TREE else View(labels)
                sentence = film(model, Path(path), target, view, space, shared)
                result += [str(target), sentence]
        return result

    most = max(deepest(model.taxonomy) for model in models.values())
    with gr.Blocks(title="heteroseg", analytics_enabled=False, delete_cache=(FILES_KEPT, FILES_KEPT)) as page:
        gr.Markdown(
            f"# {' and '.join(map(escaped, models))}\nDrop in an image, choose what to be told, and click into "
            "a picture for the path and the probabilities of that pixel."
        )
        with gr.Row():
            depth = gr.Slider(0, most, value=most, step=1, label="Depth of the tree", elem_id="depth")
            min_probability = gr.Slider(0, 1, value=0, step=0.05, label="Least probability", elem_id="back-off")
            alpha = gr.Slider(0, 1, value=0.5, step=0.05, label="Strength of the colours", elem_id="alpha")
        with gr.Row():
            asked = [
                gr.Dropdown(
                    [("the tree (depth and probability count)", TREE), *((n, n) for n in spaces(model) if n != TREE)],
                    value=TREE, label=f"{name}: answer in", elem_id=f"labels-{i}",
                )
                for i, (name, model) in enumerate(models.items())
            ]  # fmt: skip
        with gr.Tab("Image"):
            source = gr.Image(
                type="filepath", label="Image", sources=["upload", "clipboard"], height=300, buttons=["fullscreen"],
                elem_id="source",
            )  # fmt: skip
            source.preprocess = as_it_is  # type: ignore[method-assign]  # a subclass would write files on import
            pictures, lists, paths = [], [], []
            with gr.Row():
                for i, name in enumerate(models):
                    with gr.Column():
                        pictures.append(
                            gr.Image(
                                label=f"{name} (click a pixel)", interactive=False, format="jpeg",
                                buttons=["fullscreen", "download"], elem_id=f"answer-{i}",
                            )
                        )  # fmt: skip
                        paths.append(gr.HTML(elem_id=f"path-{i}"))
                        lists.append(gr.HTML(elem_id=f"found-{i}"))
        with gr.Tab("Video"):
            film_in = gr.Video(
                label=f"Video (at most {limits.seconds:g} s of work)", sources=["upload"], buttons=[], height=300,
                elem_id="film",
            )  # fmt: skip
            films, notes = [], []
            start = gr.Button("Label the video", elem_id="start")
            with gr.Row():
                for i, name in enumerate(models):
                    with gr.Column():
                        films.append(gr.Video(label=name, interactive=False, buttons=["download"], elem_id=f"film-{i}"))
                        notes.append(gr.Markdown())
        shown = [part for pair in zip(pictures, lists, strict=True) for part in pair]
        inputs = [source, alpha, depth, min_probability, *asked]
        looked = source.change(show, inputs, shown, api_visibility="private", show_progress="minimal")
        looked.failure(lambda: [None, ""] * len(models), None, shown, api_visibility="private")
        source.upload(viewable, source, source, api_visibility="private", show_progress="hidden")
        source.change(lambda: [""] * len(models), None, paths, api_visibility="private", show_progress="hidden")
        controls: list[Any] = [depth, min_probability, alpha, *asked]
        for control in controls:  # of what is dragged past only the last counts
            control.change(
                show, inputs, shown, api_visibility="private", show_progress="minimal", trigger_mode="always_last"
            )
        for picture in pictures:
            picture.select(point, source, paths, api_visibility="private", show_progress="hidden")
        start.click(
            play, [film_in, depth, min_probability, *asked],
            [part for pair in zip(films, notes, strict=True) for part in pair], api_visibility="private",
        )  # fmt: skip
    page.queue(max_size=limits.waiting, default_concurrency_limit=1)
    return page


def build_app(models: Mapping[str, Model], limits: Limits) -> FastAPI:
    """Endpoint under /v1, page under /."""
    turns = Turns(limits)
    return gr.mount_gradio_app(
        build_service(models, limits, turns), build_page(models, limits, turns), path="/", css=CSS,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        max_file_size=int(limits.megabytes * 1e6), show_error=True, ssr_mode=False, enable_monitoring=False, pwa=False,
        footer_links=[],
    )  # fmt: skip
