"""Find one thing in all photographs of a folder: a mask of it for each, and how much of the picture it takes.

python examples/find_things.py demo photos --name car --out masks      # `demo` ships; or a RUN of your own
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

import heteroseg


def find(model: heteroseg.Model, photo: Path, name: str, out: Path) -> float:
    """Write OUT/PHOTO.png, white where the thing is, and return its share of the picture."""
    mask = model.predict(photo).mask(name)  # (H, W) bool; the name of a label, or of a node with all that is below it
    cv2.imwrite(str(out / f"{photo.stem}.png"), mask.astype(np.uint8) * 255)
    return mask.mean()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="RUN, MODEL, exported file, hf://owner/name or demo")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="car")
    parser.add_argument("--out", type=Path, default=Path("masks"))
    args = parser.parse_args(arguments)
    model = heteroseg.load(args.model, device="auto")
    args.out.mkdir(parents=True, exist_ok=True)
    for photo in sorted(args.folder.iterdir()):
        if photo.suffix.lower() in (".jpg", ".jpeg", ".png"):
            print(f"{photo.name}: {find(model, photo, args.name, args.out):.1%} {args.name}")


if __name__ == "__main__":
    main()
