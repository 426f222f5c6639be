"""What it gains to keep freed memory (training.keep_freed_memory): steps of one experiment with and without, by turns.

python benchmarks/memory.py EXPERIMENT [--steps 30] [--rounds 3] [key=value ...]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import sys
from heteroseg.training import processes
if sys.argv[1] == "before":
    processes.keep_freed_memory = lambda: False
from heteroseg.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def seconds(way: str, args: argparse.Namespace) -> float:
    """Seconds of a step, waiting for its batch included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", CODE, way, "train", args.experiment, "--out", str(out)]
        subprocess.run([*command, f"train.steps={args.steps}", *args.overrides], check=True, capture_output=True)
        return float(json.loads((out / "facts.json").read_text())["training seconds"]) / args.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    times: dict[str, list[float]] = {"before": [], "after": []}
    for _ in range(args.rounds):
        for way in times:
            times[way].append(seconds(way, args))
            print(f"{way}: {times[way][-1]:.3f} s a step", flush=True)
    before, after = (statistics.median(times[way]) for way in ("before", "after"))
    print(f"median {before:.3f} -> {after:.3f} s a step, {100 * (1 - after / before):.0f} % less")


if __name__ == "__main__":
    main()
