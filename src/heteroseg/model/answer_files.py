"""The answer to one image as files: a label map, a JSON that tells of it, and a picture. Whole, and never replaced."""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from heteroseg.datasets.encoding import write_pixels
from heteroseg.datasets.image_files import open_file
from heteroseg.errors import HeterosegError, InputError
from heteroseg.files import read_json, write_json
from heteroseg.labels.space import LabelSpace
from heteroseg.model.pictures import picture
from heteroseg.model.views import Views, views_of, views_text
from heteroseg.writing import is_free, require_absent, write_bytes

if TYPE_CHECKING:
    from heteroseg.model.model import Model

LONGEST = 255  # bytes of a name that disks take
RULE = 2  # of heteroseg; goes up when a network comes to answer otherwise for the same file. 2: photographs are upright
CHANGES = {
    "label_space": "in label space {before!r}, now {now!r} is asked for",
    "model": "by a model with other weights",
    "rule": "by another version of heteroseg, which answers otherwise",
    "labels_digest": "before label space {label_space!r} or its taxonomy was changed",
    "decision": "by the decision {before!r}, now it is {now!r}",
    "source": "from {before}, now {now} is asked for",
    "input": "before this input was changed",
    "as_stored": "with images as stored: {before}, now {now}",
    "tta": "with other views, --tta",
}
"""How to say that what decides an answer was another one before."""


def count_labels(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(labels + 1,) int64 pixels of each label, those outside the space last."""
    counts = np.bincount(label_indices.ravel() + 1, minlength=len(space.labels) + 1)
    return np.roll(counts, -1)


def summary(counts: np.ndarray, space: LabelSpace, size: tuple[int, ...], frames: int = 1) -> dict:
    """What was found: pixels and share of every label that occurs, the largest first."""
    order = np.argsort(-counts[:-1], kind="stable")
    lines = [(space.labels[i], int(counts[i]), round(float(counts[i] / counts.sum()), 6)) for i in order if counts[i]]
    labels = {label.name: {"id": label.id, "pixels": pixels, "share": share} for label, pixels, share in lines}
    whole = {"label_space": space.name, "size": list(size), "frames": frames, "outside": int(counts[-1])}
    return whole | {"labels": labels}


def native_ids(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W) native ids of a label map: uint8 where all ids of the space fit, else uint16."""
    ids = space.native_ids(label_indices)
    if ids.dtype == np.int64:
        told = "does not fit into a 16-bit PNG; choose a space of smaller ids"
        raise HeterosegError(f"label space {space.name!r}: id {max(*space.ids, space.outside)} {told}")
    return ids


def encode_ids(label_indices: np.ndarray, space: LabelSpace) -> bytes:
    """Native ids of a label map as a grey PNG: 8 bits where all ids of the space fit, else 16."""
    return cv2.imencode(".png", native_ids(label_indices, space))[1].tobytes()


def decided_by(
    model: "Model", space: LabelSpace, as_stored: bool = False, views: Views | None = None
) -> dict[str, Any]:
    """What decides the answers, to be kept beside them: where it has changed, they are those of another.

    `views` are those that the model has where they are not given.
    """
    files = space.file.model_dump_json(exclude={"description", "taxonomy"}), model.taxonomy.to_file().model_dump_json()
    digest = hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]
    told = {"model": model.digest, "label_space": space.name, "labels_digest": digest}
    more = {"as_stored": as_stored, "tta": views_text(views or views_of(model.tta))}
    return told | {"decision": model.decision, "rule": RULE} | {key: value for key, value in more.items() if value}


def require_same(where: Path | str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise HeterosegError where answers that are there were decided otherwise than those that are asked for."""
    for key, told in CHANGES.items():
        if before.get(key) != now.get(key):
            told = told.format(before=before.get(key), now=now.get(key), label_space=now["label_space"])
            raise HeterosegError(f"{where}: was predicted {told}; choose another --out, or remove the old answers")


@dataclass(frozen=True)
class Outputs:
    """Where the answer to a job goes: label maps, a picture where one is wanted, and the JSON that tells of them.

    The JSON is there before the others, so that what has none is somebody else's; that of a video ends with its `size`.
    No file that is there is replaced: what is there is whole, and perhaps somebody has worked on it.
    """

    ids: Path
    painted: Path | None
    told: Path
    of_video: bool

    def done(self, source: Path | str, decided: dict[str, Any], input_of: Callable[[], dict[str, Any]]) -> bool:
        """Whether all is there. Files of somebody else, and what was decided otherwise, raise HeterosegError.

        `source` is what faults name, `input_of` gives what tells it from other inputs.
        """
        if any(len(os.fsencode(path.name)) > LONGEST for path in self.all()):
            raise InputError(f"{source}: expected a name that leaves room for the endings of answers, rename it")
        if is_free(self.told):
            for path in self.all():
                require_absent(path, f"no {self.told.name} says that it was predicted, so choose another --out")
            return False
        before = None
        with suppress(HeterosegError):
            before = read_json(self.told)
        if not isinstance(before, dict) or "model" not in before:
            told = "expected a file of an earlier prediction"
            raise HeterosegError(f"{self.told}: {told}, found another; choose another --out")
        now = input_of()
        if "source" not in before or before.get("input") == now["input"]:
            now["source"] = before.get("source")  # it may have another place
        require_same(self.told, before, decided | now)
        if "size" not in before or any(is_free(path) for path in self.all()):
            return False
        if self.of_video:
            missing = set(before.get("missing", ()))
            if any(is_free(self.frame(i)) for i in {*range(before.get("frames", 0) + len(missing))} - missing):
                return False
        if "fault" in before:
            raise InputError(f"{source}: {before['fault']}")
        return True

    def all(self) -> list[Path]:
        return [self.ids, self.told, *([self.painted] if self.painted else [])]

    def frame(self, i: int) -> Path:
        return self.ids / f"{i:06d}.png"

    def tell(self, decided: dict[str, Any], found: dict[str, Any]) -> None:
        if "size" not in read_json(self.told, {}):
            write_json(self.told, decided | found)


def told_of(source: Path) -> dict[str, Any]:
    """What tells an input from others."""
    with open_file(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return {"source": str(source.absolute()), "input": digest}


def told_of_pixels(image: np.ndarray) -> dict[str, Any]:
    """The same for an image that no file holds."""
    return {"source": None, "input": hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:16]}


def outputs_of(target: Path, with_overlay: bool, of_video: bool = False) -> Outputs:
    """Where the answer to an input goes, by the path that it leads to, without an ending."""
    ids = target if of_video else Path(f"{target}.png")
    painted = Path(f"{target}_overlay.{'webm' if of_video else 'jpg'}") if with_overlay else None
    return Outputs(ids, painted, Path(f"{target}.json"), of_video)


def write_answer(
    out: Outputs, image: np.ndarray, label_indices: np.ndarray, space: LabelSpace, decided: dict[str, Any]
) -> None:
    """Write what is not there yet of the answer to an image; `decided` tells in the JSON how it came about."""
    out.tell(decided, summary(count_labels(label_indices, space), space, label_indices.shape))
    if is_free(out.ids):
        write_bytes(out.ids, encode_ids(label_indices, space))
    if out.painted and is_free(out.painted):
        pixels = np.ascontiguousarray(picture(image, label_indices, space)[..., ::-1])
        write_pixels(out.painted, pixels, (cv2.IMWRITE_JPEG_QUALITY, 92))
