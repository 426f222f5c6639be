"""Requests that schemathesis makes from the OpenAPI document: no answer is a fault of the server's, all are as told."""

import cv2
import numpy as np
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="it is in the extra dev")
pytest.importorskip("fastapi", reason="the extra app is not installed")
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from heteroseg.app.bounds import Limits
from heteroseg.app.page import build_app
from heteroseg.scenes import draw_scene
from tests.reliability import SEED, WHOLE

PHOTO = cv2.imencode(".png", draw_scene(np.random.default_rng(7), (32, 64)).image)[1].tobytes()


PATHS = {f"/v1/{name}": "post" for name in ("predict", "path", "picture", "film")}
PATHS |= {"/v1/models": "get", "/v1/example/{number}": "get"}


@pytest.fixture(scope="module")
def document(tiny_model):
    limits = Limits(megapixels=0.1, megabytes=0.2, seconds=20)
    return schemathesis.openapi.from_asgi("/v1/openapi.json", build_app({"tiny": tiny_model}, limits, ["testserver"]))


def test_all_of_the_document_is_tried(document):
    assert {path: list(operations) for path, operations in document.raw_schema["paths"].items()} == {
        path: [method] for path, method in PATHS.items()
    }


@pytest.mark.parametrize(
    ("path", "right"),
    [
        *((path, True) for path in PATHS),
        *((f"/v1/{path}", False) for path in ("predict", "path", "film", "example/{number}")),
    ],
)
def test_the_document_is_true(document, path, right):
    mode = schemathesis.GenerationMode.POSITIVE if right else schemathesis.GenerationMode.NEGATIVE
    unlike = [positive_data_acceptance]  # any bytes are a body by the document, and hardly ever an image

    @seed(SEED)
    @settings(max_examples=150 if WHOLE else 15, suppress_health_check=list(HealthCheck))
    @given(case=document[path][PATHS[path].upper()].as_strategy(mode))
    def ask(case):
        case.call_and_validate(excluded_checks=unlike)
        if PATHS[path] == "post":
            case.body = PHOTO
            case.call_and_validate(excluded_checks=unlike)

    ask()
