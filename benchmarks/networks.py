"""Every network that is built by name: its size, what works with it, and the time of a frame; docs/networks.md.

`python -m benchmarks.networks --work runs/networks --step works` tries small relatives with random weights, those of
the contract test: three sizes, a MODEL folder, files for other runtimes. `--step time` builds each with its library's
own sizes and times a frame. `--step table` writes the page of what there is. They go on where they were stopped.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tests.networks.catalogue import REFUSED, catalogue

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import WHOLE, ModelConfig
from heteroseg.export.export import export
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load
from heteroseg.networks.network import build_network
from heteroseg.provenance import facts

TREE = load_taxonomy("streets-108")
SIZES, FRAME = ((64, 96), (65, 97), (1, 1)), (512, 512)
STRIDES = {"hf:focalnet": 8}
MOST = 5 * 10**8  # parameters of a network that is timed
BY_HAND = {
    "hf-seg:beit": {"out_indices": [3, 5, 7, 11]},
    "hf-mask:detr": {
        "backbone_config": {"model_type": "resnet", "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    },
}
"""What the sizes that libraries take by default lack, as they tell it themselves."""
PAGE = """# Networks

What `model.backbone` takes of EfficientNet-Lite and of transformers {version}. `tests/networks/test_contract.py`
tries these, or small relatives, with random weights in every run of the tests: images of 64x96, 65x97, 1x1, gradients
and a MODEL folder that is the same network; `make fuzz` tries also files for ONNX Runtime and OpenVINO, and two
processes that equal one. `paper`, timm's networks and your own are in [the guide](guides/backbones.md).

- **parameters**: millions, with the sizes that the library takes by default and the head of `streets-108`; "by hand"
  where these make no network, so that `backbone_options` must say more (`hf-seg:beit` and `hf-mask:detr` were given
  what they ask for)
- **strides** that `model.stride` may have; a whole network has its own
- **ONNX, OpenVINO**: yes, or not for any size at once (`--size` makes a file for one), or no, where the runtime lacks
  an operation, which `export` names; a file that is written always answers as the network does
- **ms**: CPU time of an image of 512x512, stride 8 where there is a choice, fp32, one thread, beside other work
  ({cpu}); "large" beyond {most} million parameters, which were not run

| `model.backbone` | parameters | strides | ONNX | OpenVINO | ms |
|---|---|---|---|---|---|
{rows}

Not taken, and what is told:

{refused}

By `python -m benchmarks.networks` at {commit}, {date}.
"""


def configured(name: str, options: dict, **more) -> ModelConfig:
    own = {} if name.startswith(WHOLE) else {"stride": STRIDES.get(name, 4)} | more
    return ModelConfig(backbone=name, backbone_options=options, **own)


def file_of(model: Model, kind: str, folder: Path) -> str:
    """Whether a network can be exported for any size of image, or what stands in the way."""
    try:
        export(model, folder / {"onnx": "network.onnx", "openvino": "network.xml"}[kind], kind)
    except HeterosegError as error:
        if "--size" in str(error):
            return "not for any size"
        return "no"
    return "yes"


def works(name: str, options: dict) -> dict:
    """Strides and files of a small relative, or why it is refused."""
    config = configured(name, options, width=16)
    try:
        network = build_network(config, TREE).eval()
    except HeterosegError as error:
        return {"refused": str(error)}
    with torch.no_grad():
        assert all(torch.isfinite(network(torch.zeros(1, 3, *size))).all() for size in SIZES)
    strides = "own"
    if not name.startswith(WHOLE):
        maps = network.get_submodule("body.0").maps
        plain = "Pyramid" in type(network.get_submodule("body.0")).__name__
        strides = ", ".join(str(s) for s in dict.fromkeys(maps.strides)) + " (pyramid)" * plain
    model = Model("small", network, TREE, {}, config)
    with TemporaryDirectory() as folder:
        assert load(model.save_pretrained(Path(folder, "model"))).digest == model.digest
        return {"strides": strides} | {kind: file_of(model, kind, Path(folder)) for kind in ("onnx", "openvino")}


def timed(name: str, _: dict) -> dict:
    """Parameters and milliseconds of a network with its library's own sizes."""
    try:
        network = build_network(configured(name, BY_HAND.get(name, {}), stride=8), TREE).eval()
    except HeterosegError as error:
        return {"refused": str(error)}
    parameters = sum(p.numel() for p in network.parameters())
    spent = []
    with torch.inference_mode():
        while parameters < MOST and len(spent) < 2:
            start = time.process_time()
            network(torch.zeros(1, 3, *FRAME, dtype=torch.uint8))
            spent.append(time.process_time() - start)
    return {"parameters": parameters, "ms": 1e3 * min(spent) if spent else None}


def each(step: Callable[[str, dict], dict], work: Path, only: list[str]) -> None:
    for name, options in catalogue().items():
        file = work / f"{step.__name__}-{name.replace(':', '-')}.json"
        if not file.exists() and (not only or name in only):
            torch.manual_seed(0)
            file.write_text(json.dumps(step(name, options)))
            print(name, file.read_text(), flush=True)


def row(name: str, works: dict, timed: dict) -> str:
    if not timed or "refused" in timed:
        size = ms = "by hand" if timed else "not timed"
    else:
        size, ms = f"{timed['parameters'] / 1e6:.1f}", f"{timed['ms']:.0f}" if timed["ms"] else "large"
    files = (works[kind].partition(" (")[0] for kind in ("onnx", "openvino"))
    return f"| `{name}` | {size} | {works['strides']} | {' | '.join(files)} | {ms} |"


def table(work: Path, out: Path) -> None:
    import transformers

    known = facts()
    rows, refused = [], []
    for name in catalogue():
        tried, time_of = (work / f"{step}-{name.replace(':', '-')}.json" for step in ("works", "timed"))
        result = json.loads(tried.read_text())
        if name in REFUSED or "refused" in result:
            refused.append(f"- `{name}`: {result['refused'].partition(chr(10))[0]}")
        else:
            rows.append(row(name, result, json.loads(time_of.read_text()) if time_of.exists() else {}))
    text = PAGE.format(
        version=transformers.__version__,
        most=MOST // 10**6,
        cpu=known["machine"],
        commit=known["commit"],
        date=known["date"],
        rows="\n".join(rows),
        refused="\n".join(refused),
    )
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/networks"))
    parser.add_argument("--step", choices=["works", "time", "table"], required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/networks.md"))
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if chosen.step == "table":
        table(chosen.work, chosen.out)
    else:
        each({"works": works, "time": timed}[chosen.step], chosen.work, chosen.only)
