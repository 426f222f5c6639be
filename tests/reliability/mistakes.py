"""What people mistype: command lines, overrides, experiment files, arrays, folders, and how each outcome is sorted."""

import argparse
import contextlib
import io
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

import heteroseg
from heteroseg.cli.main import build_parser, main
from heteroseg.errors import HeterosegError

SECONDS = 60  # after which something hangs; training of two steps takes one
MEMORY = 12 * 2**30  # of addresses, so that what takes all memory meets an error and not the system's killer
WORDS_INSIDE = re.compile(
    r"pydantic|Input should|validation error|unable to parse|Value error|Traceback|torch\.|\baten|numpy|ndarray|dtype"
    r"|cv2|OpenCV|Errno|Error\b(?! of)|Exception|<class|object at 0x|__\w+__|errors\.pydantic|HeaderTooLarge"
)
SAYS = re.compile(
    r"expected|found|there is no|has no|no such|cannot|could not|must|twice|not valid|needs|does not|choose|unknown"
    r"|required|goes with|not allowed with|has none|is no |could match|such faults|write |write it|name one|would"
)
LONGEST = 1000  # characters of a sentence
MOST = 12  # sentences


class Hangs(BaseException):
    """Raised when something takes too long."""


@contextlib.contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    def stop(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    bounds = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, bounds[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, bounds)
        signal.signal(signal.SIGALRM, before)


def judged(sentences: list[str]) -> str:
    """`refused`, or `vague` where a sentence does not help or speaks of a library's inside."""
    if not sentences or len(sentences) > MOST:
        return "vague"
    for told in sentences:
        if len(told) > LONGEST or not SAYS.search(told) or WORDS_INSIDE.search(told):
            return "vague"
    return "refused"


def call(argv: list[str], seconds: float = SECONDS) -> tuple[str, str]:
    """The kind of outcome of a command line, and what it told."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with limited(seconds), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    except SystemExit as stop:
        code = stop.code
    except Hangs:
        return "HANG", ""
    except BaseException as error:
        return "TRACEBACK", f"{type(error).__name__}: {error}"
    told = [line for line in err.getvalue().split("\n") if line.startswith("heteroseg")]
    if code == 0:
        return "ok", ""
    if code == 2 and told and told[-1].endswith("--help"):
        return judged(told), "\n".join(told)
    if code == 2:
        return judged([line.removeprefix("heteroseg: ") for line in told]), "\n".join(told) or err.getvalue()[-500:]
    return "TRACEBACK", err.getvalue()[-2000:]


def ask(run: Callable[[], Any]) -> tuple[str, str]:
    """The kind of outcome of Python code, and what it told."""
    try:
        with limited(), contextlib.redirect_stderr(io.StringIO()):
            run()
    except HeterosegError as error:
        return judged(list(error.faults)), str(error)
    except Hangs:
        return "HANG", ""
    except BaseException as error:
        return "TRACEBACK", f"{type(error).__name__}: {error}"
    return "ok", ""


# ---- command lines ----

# fmt: off
ODD = [
    "", " ", "-1", "0", "1", "1e30", "-1e30", "inf", "nan", "1.5", "0x10", "9" * 5000, "x" * 5000, 'a\x00b', "true",
    "~nobody/x", "/dev/null", "/dev/zero", "/proc/self/mem", "/", ".", "..", '\xe9', '\udcff', "a b", "null", "[1",
    "{", "[]", "a=b", "=", "=1", "hf://", "hf://a/b/c", "hf:// / ", "http://127.0.0.1:9/x", "meta", "cuda:99",
    "cpu:7", '\n', 'a\nb', "x.yaml", "x.onnx", "x.xml", "x.png", "-", "--", "1,2", "2x2", "0x0", "99999x99999",
    "leaves", "{0}",
]
PLACES = [
    "folder", "empty", "text.txt", "broken.png", "circle", "void.yaml", "list.yaml", "void.json", "no/where",
    "pipe",
]
# fmt: on


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command by its words."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return {words: parser}
    return {k: v for group in groups for name, p in group.choices.items() for k, v in leaves(p, (*words, name)).items()}


PARSERS = leaves(build_parser())


def sound(at: Path, out: str) -> dict[tuple[str, ...], list[list[str]]]:
    """Every command as it works, in parts that belong together."""
    e, run, photo, names = str(at / "e.yaml"), str(at / "run"), str(at / "photo.png"), str(at / "names.csv")
    data, name = ["--data", e], ["--dataset", "vistas"]
    return {
        ("taxonomy", "check"): [["streets-108"]],
        ("taxonomy", "show"): [["camvid11"]],
        ("taxonomy", "import"): [[names], ["--out", out]],
        ("taxonomy", "suggest"): [[names], ["--out", f"{out}.yaml"], ["--taxonomy", "streets-108"]],
        ("data", "check"): [[e]],
        ("data", "show"): [[e], ["--out", out]],
        ("data", "audit"): [[e], ["--out", out], ["--images", "1"]],
        ("masks", "draw"): [[e], ["--dataset", "gtsdb"], ["--out", out]],
        ("relabel",): [[run], data, name, ["--labels", "leaves"], ["--out", out]],
        ("blobs", "find"): [[e], name, ["--label", "Car"], ["--model", run], ["--labels", "leaves"], ["--out", out]],
        ("blobs", "apply"): [[e], ["--blobs", str(at / "blobs")], ["--out", out]],
        ("train",): [[e], ["--out", out], ["train.steps=1"]],
        ("compare",): [[e], ["--out", out], ["--ways", "flat"], ["train.steps=1"]],
        ("demo",): [["--out", out]],
        ("evaluate",): [[run], data, ["--limit", "1"]],
        ("report",): [[run], ["--out", f"{out}.html"]],
        ("calibrate",): [[run], data, ["--limit", "1"]],
        ("novelty",): [[run], data, ["hold_out=[bird]"]],
        ("bench",): [["--preset", "fast"], ["--size", "32x32"], ["--repeats", "1"]],
        ("predict",): [[run], [photo], ["--out", out]],
        ("predict-many",): [[run], [str(at / "empty")], ["--out", out]],
        ("export",): [[run], ["--format", "onnx"], ["--out", f"{out}.onnx"], ["--precision", "nothing"]],
        ("share",): [[run], ["--out", out]],
        ("serve",): [[run], ["--port", "0"], ["--allow-host", "a"]],
    }


SLOW = {
    ("serve",): "--device=nothing",
    ("bench",): "--taxonomy=nothing",
    ("compare",): "--seeds=nothing",
    ("demo",): "--nothing",
    ("predict-many",): "--workers=nothing",
}
"""A last mistake of commands that otherwise may work for minutes."""


def misspelt(rng: Random, word: str) -> str:
    i = rng.randrange(len(word) or 1)
    return rng.choice([word[:i] + word[i + 1 :], word[:i] + "x" + word[i:], word.upper(), word + word[-1:], word[:i]])


def command_line(rng: Random, at: Path, out: str) -> list[str]:
    """A command with one or two mistakes."""
    words, parts = rng.choice([*sound(at, out).items()])
    parts = [list(part) for part in parts]
    options = [o for a in PARSERS[words]._actions for o in a.option_strings if o not in ("-h", "--help")]
    for _ in range(rng.choice([1, 1, 1, 2])):
        change, i = rng.randrange(9), rng.randrange(len(parts))
        odd = rng.choice(ODD) if rng.randrange(3) else str(at / rng.choice(PLACES))
        if change == 0 and len(parts) > 1:
            del parts[i]
        elif change == 1:
            parts.insert(rng.randrange(len(parts) + 1), list(parts[i]))
        elif change == 2:
            j = rng.randrange(len(parts[i]))
            parts[i][j] = misspelt(rng, parts[i][j])
        elif change <= 5:
            parts[i][-1] = odd
        elif change == 6 and options:
            parts.append([rng.choice(options), odd])
        elif change == 7:
            parts.append([rng.choice(["--nothing", "-x", rng.choice(options or ["--y"])])])
        else:
            parts.append([override(rng)])
    if rng.randrange(20) == 0:
        words = (*words[:-1], misspelt(rng, words[-1]))
    parts.append([SLOW[words]] if words in SLOW else [])
    return [*words, *(word for part in parts for word in part)]


# ---- overrides and experiment files ----

# fmt: off
KEYS = [
    "name", "taxonomy", "data_root", "hold_out", "datasets", "model", "loss", "optimiser", "train", "evaluate",
    "evaluate.decision", "datasets.gtsdb", "datasets.other", "datasets.gtsdb.root", "datasets.gtsdb.reader",
    "datasets.gtsdb.label_space", "datasets.gtsdb.options", "datasets.gtsdb.options.nothing",
    "datasets.gtsdb.train", "datasets.gtsdb.val", "datasets.gtsdb.share", "datasets.gtsdb.flip",
    "datasets.gtsdb.scale", "datasets.gtsdb.focus", "datasets.gtsdb.rare", "datasets.gtsdb.license",
    "datasets.gtsdb.notes", "model.backbone", "model.pretrained", "model.backbone_options",
    "model.backbone_options.depths", "model.backbone_options.nothing", "model.backbone_options.hidden_sizes",
    "model.backbone_options.embedding_size", "model.backbone_options.layer_type",
    "model.backbone_options.hidden_act", "model.backbone_options.out_features", "model.scale", "model.decoder",
    "model.width", "model.stride", "model.adapters", "model.upsample", "model.void", "model.branches",
    "model.branch_gradient", "loss.cell", "loss.gate",
    "loss.normalise", "loss.weights", "loss.weights.default", "loss.weights.nothing", "loss.box_weights",
    "loss.balance", "loss.class_weights", "loss.class_weights.nothing", "optimiser.name", "optimiser.lr",
    "optimiser.backbone_lr", "optimiser.weight_decay", "optimiser.momentum", "optimiser.schedule",
    "optimiser.warmup", "optimiser.power", "optimiser.halve_at", "optimiser.clip", "train.batch", "train.crop",
    "train.color", "train.seed", "train.workers", "train.ema", "train.precision", "train.devices", "train.nodes",
    "train.accelerator", "train.log_every", "train.save_every", "train.evaluate_every", "train.freeze_norm",
    "train.best", "train.patience", "train.logger",
    "train.steps", "nothing", "a.b.c.d.e", "train.steps.a", "datasets..", ".train", "..",
]
VALUES = [
    "", " ", "null", "true", "no", "0", "1", "2", "-1", "-0.5", "0.5", "1e30", "1e-30", "-1e999", "1e999", ".inf",
    ".nan", "-.inf", "65536", "1e22", "1e3", "3.0", "x", "''", '" "', "'\\0'", '\x00', "[", "]", "{", "[]", "{}",
    "[1]", "[64, 64]", "[65536, 65536]", "[2, 0.5]", "[1, 1, 1]", "[0, 0]", "[x, y]", "{a: 1}", "{a: {b: [1, 2]}}",
    "2024-01-31", "2024-13-45", "12:30", "!!python/name:os", "!a b", "&a [*a]", "*a", "<<", "{<<: 1}", "? a", "- a",
    "a: b: c", "# x", "9" * 30, "9" * 5000, "x" * 5000, "[" * 3000, "{a: " * 60 + "1" + "}" * 60, "0x1f", "017",
    "1_000", '\ud800', '\xe9', "{default: 0}", "{default: -1}", "{root: 0, default: 0}", "{a: 1, a: 2}", "{1: 2}",
    "{null: 1}", "{[1]: 2}", "..", "/", "hf:nothing", "hf:", "timm:nothing", "python:os", "hf-seg:x",
    "hf-seg:segformer", "[traffic sign]", "lite0", "paper", "hf:vit", "cuda", "tpu",
]
# fmt: on


def override(rng: Random) -> str:
    return f"{rng.choice(KEYS)}{rng.choice(['=', '=', '=', '=', '=', '=', '=', '==', ':', ''])}{rng.choice(VALUES)}"


def trainable(key: str) -> bool:
    """Whether a sound value lets a training end soon in this process."""
    return key not in ("train.steps", "train.devices", "train.nodes", "train.workers", "train.accelerator")


def with_override(rng: Random, at: Path, out: str) -> list[str]:
    """A command with a few overrides, most of them wrong."""
    key, value = rng.choice(KEYS), rng.choice(VALUES)
    line = [f"{key}={value}"] + [override(rng) for _ in range(rng.choice([0, 0, 0, 1]))]
    if trainable(key) and len(line) == 1:
        nothing = [f"datasets.{name}.val=null" for name in ("cityscapes", "vistas", "gtsdb")]
        return ["train", str(at / "e.yaml"), "--out", out, "--no-warnings", "train.steps=1", *nothing, *line]
    return ["data", "check", str(at / "e.yaml"), *line]


def experiment_text(rng: Random, text: str) -> str:
    """The text of an experiment with a few values, keys or lines damaged."""
    lines = text.splitlines()
    for _ in range(rng.choice([1, 1, 2])):
        i, value = rng.randrange(len(lines)), rng.choice(VALUES)
        change = rng.randrange(8)
        if change <= 2:
            spots = [m.span(1) for m in re.finditer(r"(?<=: )([^:{}\[\],]+)", lines[i])]
            if spots:
                start, stop = rng.choice(spots)
                lines[i] = lines[i][:start] + value + lines[i][stop:]
        elif change == 3:
            lines.insert(i, lines[i])
        elif change == 4:
            del lines[i]
        elif change == 5:
            lines[i] = misspelt(rng, lines[i])
        elif change == 6:
            lines.insert(
                i, rng.choice(["<<: *defaults", "x: &a [*a]", "? [a]", "---", "...", "%YAML 9.9", "\t", f"y: {value}"])
            )
        else:
            key = re.search(r"[a-z_]+(?=:)", lines[i])
            if key:
                new = rng.choice([value, "2024-01-31", "!!str x", "<<", "? {a: b}", "''"])
                lines[i] = lines[i][: key.start()] + new + lines[i][key.end() :]
        lines = lines or [""]
    return "\n".join(lines) + "\n"


# ---- arrays and folders ----


def array(rng: Random) -> Any:
    """What somebody takes for an image: of another shape, kind of numbers or layout, or no array."""
    shape = rng.choice(
        [(), (3,), (8, 8), (8, 8, 1), (8, 8, 2), (8, 8, 3), (8, 8, 4), (3, 8, 8), (1, 8, 8, 3), (0, 8, 3), (8, 0, 3)]
        + [(0, 0), (1, 1, 3), (1, 1), (37, 53, 3), (8, 8, 3, 1), (2, 5000, 3)]
    )
    kind = rng.choice(
        [
            "u1",
            "u1",
            "u1",
            "u1",
            "u2",
            "i1",
            "i4",
            "i8",
            "u8",
            "f2",
            "f4",
            "f8",
            "?",
            "c8",
            "O",
            "U3",
            "S2",
            "M8[s]",
            ">u2",
            ">f4",
            "V2",
        ]
    )
    numbers = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, shape)
    with np.errstate(all="ignore"):
        made = numbers.astype(kind) if kind != "V2" else np.zeros(shape, "V2")
    if made.dtype.kind == "f" and made.size:
        made.flat[0] = rng.choice([np.nan, np.inf, -1, 0.5])
    changes: list[Callable[[np.ndarray], Any]] = [
        lambda a: a,
        lambda a: a,
        lambda a: a,
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a, a.shape),
        lambda a: np.ma.masked_array(a),
        lambda a: a.tolist(),
        lambda a: a.tobytes(),
        lambda a: str(a)[:40],
        lambda a: memoryview(np.ascontiguousarray(a)),
        lambda a: torch.from_numpy(np.ascontiguousarray(a)),
        lambda a: Image.fromarray(np.ascontiguousarray(a)),
        lambda a: Image.new(rng.choice(["1", "L", "P", "RGBA", "CMYK", "I;16", "F", "LA", "YCbCr"]), (8, 8)),
    ]
    change = rng.choice(changes)
    try:
        return change(made)
    except Exception:  # this library cannot hold it
        return made


def question(rng: Random, model: Any) -> Callable[[], Any]:
    """Something that is asked of a model in Python, with what nobody should ask among it."""
    name = rng.choice(
        ["", " ", "x", "leaves", "gtsdb", "a\0b", ".", "/", "x.yaml", "x" * 5000, "hf://", "~nobody/x", "\n"]
        + [None, 3, 0.5, b"x", ["x"], ("leaves",), {}, np.int64(1), Path("x.yaml"), Path("leaves")]
    )
    number = rng.choice([None, 0, 1, -1, 0.5, 1.5, float("nan"), float("inf"), "x", True, []])
    image = np.zeros((8, 8, 3), np.uint8)
    return rng.choice(
        [
            lambda: model.predict(name),
            lambda: model.predict(number),
            lambda: model.predict(image).labels(name),
            lambda: model.predict(image).confidence(name),
            lambda: model.predict(image).nodes(number),
            lambda: model.predict(image).novelty(name),
            lambda: model.predict(image).probs(name),
            lambda: model.space(name),
            lambda: heteroseg.load(name),
            lambda: heteroseg.load(model.origin, name),
            lambda: heteroseg.load_taxonomy(name),
            lambda: heteroseg.load_experiment(name),
            lambda: heteroseg.load_label_space(name),
            lambda: heteroseg.Model.from_pretrained(name),
        ]
    )


def fill_folder(rng: Random, folder: Path) -> None:
    """A folder as people have them: images among files that are none, empty, hidden or damaged."""
    names = ["a.jpg", "a.png", "A.PNG", "._a.jpg", ".b.png", "Thumbs.db", "a.txt", "é.png", "a b.png", "a'\"$.png"]
    names += ["a.jpe", "a.webp", "a.gif", "a.tif", "a.heic", "a.mp4", "a.png.json", "no suffix", "a.tar.gz", "-a.png"]
    names += ["a\n.png", "x.jfif"]
    folder.mkdir()
    for name in rng.sample(names, rng.randrange(4)):
        path, kind = folder / name, rng.randrange(8)
        if kind <= 3:
            mode = rng.choice(["RGB", "L", "RGBA", "P", "1", "I;16", "CMYK", "LA", "F"])
            with contextlib.suppress(Exception):  # Pillow does not write every mode into every format
                Image.new(mode, rng.choice([(8, 8), (1, 1), (37, 5)])).save(path)
                continue
        if kind == 4:
            path.mkdir()
        elif kind == 5:
            path.symlink_to(rng.choice([path, folder, folder / "nothing", "/dev/zero"]))
        else:
            path.write_bytes(rng.choice([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"words\n", rng.randbytes(300)]))
