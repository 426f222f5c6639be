"""Print pip constraints: the lowest version that pyproject.toml allows of every dependency, extras too.

    python .ci/lowest.py > lowest.txt

torch is left out: constraints.txt pins the one release whose CPU build is found where this project is tested.
"""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOOR = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?>=(?P<version>[\w.]+)$")

for line in sorted({d for part in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()] for d in part}):
    floor = FLOOR.match(line)
    if floor and floor["name"] != "torch":
        print(f"{floor['name']}=={floor['version']}")
