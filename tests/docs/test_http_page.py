"""The page about HTTP has every request, parameter and field of the OpenAPI document."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra app is not installed")
from heteroseg.app.bounds import Limits
from heteroseg.app.page import build_app

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
ANSWERS = ("ModelInfo", "LabelInfo", "Answer", "FoundLabel", "PathAnswer", "Step", "Fault")


def test_all_of_the_document_is_on_the_page(tiny_model):
    document = build_app({"tiny": tiny_model}, Limits()).openapi()
    requests = [
        (method.upper(), path, told) for path, ways in document["paths"].items() for method, told in ways.items()
    ]
    names = [f"{method} {path}" for method, path, _ in requests]
    names += [p["name"] for *_, told in requests for p in told.get("parameters", ()) if p["in"] == "query"]
    names += [field for answer in ANSWERS for field in document["components"]["schemas"][answer]["properties"]]
    assert [name for name in dict.fromkeys(names) if f"`{name}`" not in PAGE and f'"{name}"' not in PAGE] == []
    statuses = {status for *_, told in requests for status in told["responses"]} - {"200"}
    assert [status for status in sorted(statuses) if status not in PAGE] == []
