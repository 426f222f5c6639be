"""What it does to say what a dataset's silence means: CamVid as if it labelled one child of `drivable` only.

python benchmarks/partial_labels.py --out DIR [--steps 300] [--seeds 1] [key=value ...]

CamVid's road, shoulders and other markings are taken together as `drivable`; its lane markings keep their label.
IDD-Lite knows `drivable` alone. The network is trained with `coverage: {lane marking: ...}` as `complete` (true here:
every marking is labelled), `positives` (the default: a label for drivable may hold markings too) and `none` (the
classifier learns nothing from this dataset), and scored on CamVid's val images. Resumable, run by run.
"""

import argparse
import json
from pathlib import Path

from heteroseg.experiment.config import load_experiment
from heteroseg.files import write_json, write_yaml
from heteroseg.labels.space import load_label_space
from heteroseg.training.loop import train

KINDS = ("complete", "positives", "none")
TOGETHER = ("Road", "RoadShoulder", "LaneMkgsNonDriv")


def experiment_file(folder: Path, kind: str) -> Path:
    """The experiment and its label space, from `experiments/real.yaml` and the shipped `camvid32`."""
    space = load_label_space("camvid32").file
    labels = [
        entry.model_copy(update={"nodes": ["drivable"], "evaluate": entry.name == "Road"})
        if entry.name in TOGETHER
        else entry
        for entry in space.labels
    ]
    changed = {"name": "camvid-lanes", "labels": labels, "coverage": {"lane marking": kind}}
    write_yaml(folder / "camvid-lanes.yaml", space.model_copy(update=changed))
    real, home = load_experiment(Path(__file__).parents[1] / "experiments" / "real.yaml")
    camvid = real.datasets["camvid"].model_copy(update={"label_space": "camvid-lanes.yaml"})
    update = {
        "name": f"coverage-{kind}",
        "data_root": str((home / real.data_root).resolve()),
        "datasets": {"camvid": camvid, "idd_lite": real.datasets["idd_lite"]},
        "loss": real.loss.model_copy(update={"box_weights": {}}),
    }
    write_yaml(folder / "experiment.yaml", real.model_copy(update=update))
    return folder / "experiment.yaml"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("overrides", nargs="*", metavar="key=value")
    args = p.parse_args()
    rows = []
    for seed in range(args.seeds):
        for kind in KINDS:
            folder = args.out / kind
            run = folder / f"seed-{seed}"
            file = experiment_file(folder, kind)
            short = [f"train.steps={args.steps}", f"train.seed={seed}", "train.ema=0.99", "optimiser.warmup=30"]
            if not (run / "evaluation.json").exists():
                train(*load_experiment(file, [*short, *args.overrides]), run, resume=(run / "state.pt").exists())
            scores = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["datasets"]["camvid"]
            per_class = {k: scores["per_class"][k] for k in ("LaneMkgsDriv", "Road")}
            rows.append({"coverage": kind, "seed": seed, "miou": scores["miou"], "per_class": per_class})
    write_json(args.out / "coverage.json", rows)
    print("| coverage | seed | lane markings: IoU / accuracy | rest of the drivable: IoU / accuracy | mIoU |")
    print("|---|---|---|---|---|")
    for r in rows:
        cells = [f"{100 * c['iou']:.1f} / {100 * c['acc']:.1f}" for c in r["per_class"].values()]
        print(f"| {r['coverage']} | {r['seed']} | {' | '.join(cells)} | {100 * r['miou']:.1f} |")


if __name__ == "__main__":
    main()
