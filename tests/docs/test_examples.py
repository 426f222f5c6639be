"""The notebook and the scripts of examples/ run as they stand; the page of the site shows the notebook.

`python -m tests.docs.test_examples` runs the notebook, keeps what its cells answer, and writes the page anew.
"""

import ast
import base64
import io
import json
import re
import runpy
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES, PAGE = ROOT / "examples", ROOT / "docs" / "notebook.md"
NOTEBOOK = EXAMPLES / "first_network.ipynb"


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def answer(source: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line, as a notebook shows them."""
    tree, printed = ast.parse(source), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(printed):
        exec(compile(tree, NOTEBOOK.name, "exec"), names)
        value = eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names) if last else None
    return printed.getvalue(), value


def output(printed: str, value: Any) -> list[dict[str, Any]]:
    """Outputs of a cell as notebook files have them; pictures are JPEGs."""
    outputs: list[dict[str, Any]] = []
    if printed:
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.splitlines(True)})
    if isinstance(value, Image.Image):
        value.convert("RGB").save(file := io.BytesIO(), "JPEG", quality=85)
        data = {"image/jpeg": base64.b64encode(file.getvalue()).decode(), "text/plain": ["a picture"]}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    elif value is not None:
        data = {"text/plain": repr(value).splitlines(True)}
        outputs.append({"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data})
    return outputs


def page() -> str:
    """The notebook as a page of the site."""
    text, pictures = "", 0
    for cell in cells():
        source = "".join(cell["source"])
        text += f"{source}\n\n" if cell["cell_type"] == "markdown" else f"```python\n{source}\n```\n\n"
        for shown in cell.get("outputs", ()):
            if "image/jpeg" in shown.get("data", ()):
                pictures += 1
                text += f"![What the cell shows](images/notebook-{pictures}.jpg)\n\n"
            else:
                text += f"```text\n{''.join(shown.get('text') or shown['data']['text/plain']).rstrip()}\n```\n\n"
    return re.sub(r"\]\(\.\./docs/", "](", text).rstrip() + "\n"


def test_the_notebook_runs():
    names: dict[str, Any] = {}
    answers = [answer("".join(cell["source"]), names) for cell in cells() if cell["cell_type"] == "code"]
    assert sum(isinstance(value, Image.Image) for _, value in answers) == 3
    assert "of the picture are cars" in "".join(printed for printed, _ in answers)
    assert set(answers[-1][1]) == {"coarse", "fine"}


def test_the_page_shows_the_notebook():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.docs.test_examples writes it"


def test_find_things(tiny_model_folder, tiny_data, tmp_path, capsys):
    photos = tiny_data / "vistas" / "val" / "images"
    runpy.run_path(str(EXAMPLES / "find_things.py"))["main"](
        [str(tiny_model_folder), str(photos), "--name", "sky", "--out", str(tmp_path)]
    )
    assert capsys.readouterr().out.count("% sky\n") == 2
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(tmp_path.glob("*.png"))]
    assert [mask.shape for mask in masks] == [(64, 128)] * 2
    assert set(np.unique(masks)) <= {0, 255}


def test_two_datasets(tmp_path):
    assert set(runpy.run_path(str(EXAMPLES / "two_datasets.py"))["main"](tmp_path, steps=3)) == {"coarse", "fine"}
    assert (tmp_path / "run" / "best" / "config.json").is_file()


def test_other_network():
    state = torch.random.get_rng_state()
    right = runpy.run_path(str(EXAMPLES / "other_network.py"))["main"](steps=20)
    torch.random.set_rng_state(state)
    assert min(right.values()) > 0.2  # of 28 and 65 labels


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 60


if __name__ == "__main__":
    notebook, names, pictures = json.loads(NOTEBOOK.read_text(encoding="utf-8")), {}, 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = output(*answer("".join(cell["source"]), names))
            for shown in cell["outputs"]:
                if picture := shown.get("data", {}).get("image/jpeg"):
                    pictures += 1
                    (ROOT / "docs" / "images" / f"notebook-{pictures}.jpg").write_bytes(base64.b64decode(picture))
    NOTEBOOK.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
