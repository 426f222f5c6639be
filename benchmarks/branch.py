"""What a branch costs in use: frames of `fast` with and without one, by turns in one process, for each runtime.

python benchmarks/branch.py [--branch "traffic sign (front)"] [--repeats 60] [--runtimes openvino-int8,torch-fp32]

Random weights, streets-108, the path rule. The branch is asked for in the part of the cells that signs have in street
scenes (`random_model.SIGNS`). The last column counts the pixels in which the answer is not that of all logits.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from heteroseg.decisions.branched import BranchedLogits
from heteroseg.decisions.exact import decode
from heteroseg.experiment.config import presets
from heteroseg.export.bench import COUNTED, WARM, frame, in_runtime, spread
from heteroseg.export.random_model import SIGNS, random_model, scenes
from heteroseg.files import write_json
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.exported import ExportedNetwork
from heteroseg.model.model import Model
from heteroseg.provenance import facts

RUNTIMES = "openvino-int8,openvino-fp32,onnx-fp32,torch-fp32"


@torch.inference_mode()
def by_turns(pair: list[Model], size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Spreads of milliseconds of each stage, [without, with], their ratio, and what of the branch was asked for."""
    image, times = scenes(1, size)[0], ([], [])
    plans = [model.plan("leaves", ids=True) for model in pair]
    for _ in range(WARM + repeats):
        for model, plan, kept in zip(pair, plans, times, strict=True):
            stages, logits, ids = frame(model, image, plan)
            kept.append(stages | {"frame": sum(stages.values())})
    row: dict[str, Any] = {
        key: [spread([stages[key] for stages in kept[WARM:]]) for kept in times] for key in ("frame", *COUNTED)
    }
    row["ratio"] = {key: row["frame"][1][key] / row["frame"][0][key] for key in ("median", "min")}
    assert isinstance(logits, BranchedLogits)
    row["asked"] = float(max(known.mean() for known in logits.known.values()))
    whole = decode(logits.everywhere().clone(), pair[1].network.covers(*size), size, plans[1])[0]
    return row | {"differ": int((ids != whole).sum())}


def pair_of(
    branch: str, runtime: Any, precision: Any, size: tuple[int, int], threads: int, folder: Path
) -> list[Model]:
    """The network without and with the branch in a runtime, with files in `folder`."""
    pair, tree = [], load_taxonomy("streets-108")
    for n, branches in enumerate(([], [branch])):
        (place := folder / str(n)).mkdir()
        config = presets()["fast"].model_copy(update={"branches": branches})
        model = in_runtime(random_model(config, tree, size, SIGNS), runtime, precision, size, place)
        if isinstance(model.network, ExportedNetwork):
            model.network.threads = threads
        else:
            model.network.eval()
        pair.append(model)
    return pair


def told(row: dict[str, Any]) -> str:
    """A line of a Markdown table."""
    stages = (f"{row[key][0]['median']:.2f} to {row[key][1]['median']:.2f}" for key in ("frame", *COUNTED))
    ratio = f"{row['ratio']['median']:.3f} | {row['ratio']['min']:.3f}"
    return f"| {row['runtime']} | {' | '.join(stages)} | {ratio} | {100 * row['asked']:.2f} | {row['differ']} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branch", metavar="NODE", default="traffic sign (front)")
    parser.add_argument("--runtimes", default=RUNTIMES)
    parser.add_argument("--height", type=int, default=520)
    parser.add_argument("--width", type=int, default=706)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size, rows = (args.height, args.width), []
    print("| runtime | frame, ms | normalise | network | decode | ratio | of the least | asked, % | differ |")
    print("|---" * 9 + "|")
    for name in args.runtimes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            pair = pair_of(args.branch, *name.split("-"), size, args.threads, Path(folder))
            rows.append({"runtime": name} | by_turns(pair, size, args.repeats))
        print(told(rows[-1]), flush=True)
    if args.json:
        write_json(args.json, {"facts": facts(), "rows": rows})


if __name__ == "__main__":
    main()
