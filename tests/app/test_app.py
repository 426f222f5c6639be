"""The endpoint keeps its schema and its bounds; the page works in a real browser and asks no other host."""

import asyncio
import base64
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("fastapi", reason="the extra app is not installed")
from fastapi.testclient import TestClient

from heteroseg.app.answers import (
    TREE,
    View,
    cut,
    film,
    label_indices,
    open_image,
    path_at,
    recolored,
    space_named,
    spaces,
)
from heteroseg.app.bounds import Limits, Refused, Turns
from heteroseg.app.page import build_app
from heteroseg.app.service import build_service
from heteroseg.cli.main import main
from heteroseg.model.model import SHIPPED, save_model
from heteroseg.model.promise import Promise
from heteroseg.scenes import draw_scene
from tests.browser import VIEWS, chromium, flaws


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return draw_scene(np.random.default_rng(7), (64, 128)).image


@pytest.fixture(scope="module")
def photo(scene) -> bytes:
    return cv2.imencode(".png", scene[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def client(tiny_model) -> TestClient:
    limits = Limits(megapixels=0.1, megabytes=0.2)
    app = build_app({"tiny": tiny_model, "same": tiny_model}, limits, ["roads.example"])
    return TestClient(app, base_url="http://localhost")


def ids_of(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_models_tell_their_label_spaces(client, tiny_model):
    told = client.get("/v1/models").json()
    assert [m["name"] for m in told] == ["tiny", "same"]
    assert told[0]["digest"] == tiny_model.digest
    assert list(told[0]["label_spaces"]) == spaces(tiny_model)
    names = {b["name"] for b in told[0]["label_spaces"]["vistas"]}
    assert names == {b.name for b in tiny_model.spaces["vistas"].labels}


@pytest.mark.parametrize("labels", ["cityscapes", "leaves", TREE])
def test_an_image_is_answered_as_predict_does(client, tiny_model, scene, photo, labels):
    answer = client.post("/v1/predict", params={"labels": labels}, content=photo).json()
    found, space = label_indices(tiny_model.predict(scene), View(labels=labels))
    wanted = np.append(space.ids, space.outside)[found]
    ids = ids_of(base64.b64decode(answer["label_map"]))
    assert ids.dtype == (np.uint8 if wanted.max() < 256 else np.uint16)
    np.testing.assert_array_equal(ids, wanted)
    assert (answer["width"], answer["height"], answer["label_space"]) == (128, 64, space.name)
    assert sum(b["pixels"] for b in answer["labels"]) + answer["outside"] == 64 * 128
    for b in answer["labels"]:
        assert (wanted == b["id"]).sum() == b["pixels"]
    alone = client.post("/v1/predict", params={"labels": labels}, content=photo, headers={"accept": "image/png"})
    assert alone.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(ids_of(alone.content), ids)


def test_depth_cuts_the_tree(client, tiny_model, scene, photo):
    tree = tiny_model.taxonomy
    nodes = tiny_model.predict(scene).nodes()
    for depth in (0, 1, 2, 9):
        cropped = cut(nodes, tree, depth)
        for node in np.unique(nodes):
            path = tree.path(node)
            assert (cropped[nodes == node] == path[min(depth, len(path) - 1)]).all()
        answer = client.post("/v1/predict", params={"labels": TREE, "depth": depth}, content=photo).json()
        assert {b["name"] for b in answer["labels"]} == {tree.names[n] for n in np.unique(cropped)}


@pytest.fixture(scope="module")
def calibrated(tiny_model):
    """The model as if `calibrate` had found that deep nodes are hardly ever right."""
    deepest = max(tiny_model.taxonomy.depths)
    least = {0.5: [0.0] * deepest, 0.9: [0.0, 0.0, *[2.0] * (deepest - 2)]}
    return replace(tiny_model, promise=Promise(images={"cityscapes": 20}, least=least))


def test_a_precision_is_promised(calibrated, tiny_model, scene, photo):
    app = build_app({"tiny": calibrated}, Limits(), precision=0.9)
    client = TestClient(app, base_url="http://localhost")
    told = client.get("/v1/models").json()[0]
    assert (told["precisions"], told["precision"]) == ([0.5, 0.9], 0.9)
    nodes = {0.9: calibrated.predict(scene).nodes(precision=0.9), 0: tiny_model.predict(scene).nodes()}
    asked = [("", 0.9), ("&precision=0.8", 0.9), ("&precision=0", 0)]  # the next that is known
    for query, precision in asked:
        reply = client.post(f"/v1/predict?labels=tree{query}", content=photo, headers={"accept": "image/png"})
        np.testing.assert_array_equal(ids_of(reply.content), 1 + np.asarray(nodes[precision]))
    assert max(calibrated.taxonomy.depths[n] for n in np.unique(nodes[0.9])) == 2
    assert client.post("/v1/predict?labels=cityscapes", content=photo).status_code == 200  # no rule of the tree


def test_views_are_averaged(tiny_model, scene, photo):
    client = TestClient(build_app({"tiny": replace(tiny_model, tta="1,flip")}, Limits()), base_url="http://localhost")
    assert client.get("/v1/models").json()[0]["tta"] == "1,flip"
    reply = client.post("/v1/predict?labels=gtsdb", content=photo, headers={"accept": "image/png"})
    np.testing.assert_array_equal(ids_of(reply.content), tiny_model.predict(scene, "1,flip").labels("gtsdb"))


def test_path_of_a_pixel(client, tiny_model, scene, photo):
    tree, said = tiny_model.taxonomy, tiny_model.predict(scene)
    told = client.post("/v1/path", params={"x": 90, "y": 11}, content=photo).json()
    path = told["path"]
    assert path[0] == {"node": "root", "probability": pytest.approx(1, abs=1e-4), "instead": []}
    for above, step in itertools.pairwise(path):
        assert tree.names[tree.parents[tree.index(step["node"])]] == above["node"]
        assert step["probability"] == pytest.approx(said.probs(step["node"])[11, 90], abs=1e-4)
        assert all(p <= step["probability"] + 1e-6 for _, p in step["instead"])
    assert not tree.children[tree.index(path[-1]["node"])]
    assert [s.node for s in path_at(said, 90, 11)] == [s["node"] for s in path]


@pytest.mark.parametrize(
    ("path", "content", "status", "told"),
    [
        ("predict", b"no picture", 415, "expected an image"),
        ("predict", b"", 415, "expected an image"),
        ("predict", b"0" * 300_000, 413, "more than 0.2 MB"),
        ("film", b"0" * 220_000, 413, "more than 0.2 MB"),
        ("predict", "large", 413, "500 x 400 pixels, at most 0.1 megapixels"),
        ("predict", "cut off", 415, "cut off or damaged"),
        ("predict?labels=nothing", None, 422, "no label space 'nothing'; there are tree, "),
        ("predict?labels=/etc/passwd.yaml", None, 422, "no label space"),
        ("predict?labels=leaves&depth=1", None, 422, "go with labels=tree"),
        ("predict?labels=tree&depth=-1", None, 422, "depth: input should be greater than or equal to 0, found '-1'"),
        ("predict?labels=tree&back_off=2", None, 422, "back_off: input should be less than or equal to 1, found '2'"),
        ("predict?labels=tree&precision=0.9", None, 422, "never calibrated, so it can promise no precision"),
        ("predict?labels=tree&precision=0.9&back_off=0.5", None, 422, "expected back_off or precision, found both"),
        ("predict?labels=leaves&precision=0.9", None, 422, "go with labels=tree"),
        ("predict?model=other", None, 404, "there is no model 'other'; there are tiny, same"),
        ("predict?label=leaves", None, 422, "there is no parameter 'label' here; did you mean 'labels'?"),
        ("nothing", None, 404, "there is no POST /v1/nothing; see /v1/openapi.json"),
        ("path?x=1", None, 422, "y: field required"),
        ("path?x=128&y=0", None, 422, "x 128, y 0 is not in the image of 128 x 64"),
    ],
)
def test_bad_requests_get_one_sentence(client, photo, path, content, status, told):
    if content == "large":
        content = cv2.imencode(".png", np.zeros((400, 500), np.uint8))[1].tobytes()
    if content == "cut off":
        content = photo[: len(photo) // 2]
    reply = client.post(f"/v1/{path}", content=photo if content is None else content)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert told in reply.json()["error"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation, photo, tmp_path):
    picture = Image.open(io.BytesIO(photo))
    exif = picture.getexif()
    exif[ImageOps.ExifTags.Base.Orientation] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(open_image((tmp_path / "a.png").read_bytes(), Limits()), wanted)


def test_what_accepts_a_png_gets_one(client, photo):
    for accept, kind in (("image/png;q=0.9, */*", "image/png"), ("*/*", "application/json"), ("", "application/json")):
        reply = client.post("/v1/predict", content=photo, headers={"accept": accept})
        assert reply.headers["content-type"] == kind


def test_the_schema_names_what_comes(client, photo):
    schema = client.get("/v1/openapi.json").json()
    answer = client.post("/v1/predict", content=photo).json()
    assert set(schema["components"]["schemas"]["Answer"]["properties"]) == set(answer)
    assert set(schema["paths"]) == {
        *(f"/v1/{name}" for name in ("models", "predict", "path", "picture", "film", "example/{number}"))
    }
    for page in ("/docs", "/redoc"):  # they would load scripts from elsewhere
        assert client.get(page).status_code == 404


def test_a_body_that_does_not_come_keeps_no_place_and_is_waited_for_until_the_time_limit(tiny_model, photo):
    limits = Limits(waiting=1, seconds=1)
    app = build_app({"tiny": tiny_model}, limits)

    async def sent(receive) -> tuple[int, str]:
        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers}
        messages: list = []

        async def send(message):
            messages.append(message)

        await app(scope, receive, send)
        return messages[0]["status"], messages[1]["body"].decode()

    async def never():
        await asyncio.Event().wait()

    async def left():
        return {"type": "http.disconnect"}

    async def at_once():
        return {"type": "http.request", "body": photo, "more_body": False}

    async def story():
        slow = [asyncio.create_task(sent(never)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert (await sent(at_once))[0] == 200
        for status, told in await asyncio.gather(*slow):
            assert (status, "did not come within 1 seconds" in told) == (408, True)
        assert (await sent(left))[0] == 499
        assert (await sent(at_once))[0] == 200

    asyncio.run(story())


def test_equal_names_have_equal_colours(tiny_model):
    space = tiny_model.space("leaves")
    name = space.labels[3].name
    again = recolored(space, {name: (1, 2, 3), "no such label": (4, 5, 6)})
    assert again.labels[3].color == (1, 2, 3)
    assert [b.color for b in again.labels[4:]] == [b.color for b in space.labels[4:]]
    np.testing.assert_array_equal(again.ids, space.ids)


def test_more_than_may_wait_are_refused(tiny_model, photo):
    limits = Limits(waiting=1, seconds=0.2)
    turns = Turns(limits)
    client = TestClient(build_service({"tiny": tiny_model}, turns))
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with turns.place(), turns.turn():
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    late = client.post("/v1/predict", content=photo)
    assert (late.status_code, "no turn within 0.2 seconds" in late.json()["error"]) == (503, True)
    assert turns._places.acquire(blocking=False)  # as if one more were waiting
    full = client.post("/v1/predict", content=photo)
    assert (full.status_code, "1 requests are waiting" in full.json()["error"]) == (429, True)
    turns._places.release()
    leave.set()
    holder.join()
    assert client.post("/v1/predict", content=photo).status_code == 200


@pytest.fixture(scope="module")
def film_file(scene, tmp_path_factory):
    """Five frames of MP4."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 64))
    for _ in range(5):
        writer.write(np.ascontiguousarray(scene[..., ::-1]))
    writer.release()
    return path


def test_films(tiny_model, film_file, tmp_path):
    source, target, space = film_file.read_bytes(), tmp_path / "overlay.webm", space_named(tiny_model, TREE)
    told, found = film(tiny_model, source, target, View(labels=TREE), space, Limits())
    assert told == "5 frames"
    decided = np.unique(tiny_model.predict(cv2.VideoCapture(str(film_file)).read()[1][..., ::-1].copy()).nodes())
    assert {name for name, _ in found} <= {tiny_model.taxonomy.names[n] for n in decided}
    video = cv2.VideoCapture(str(target))
    assert sum(video.read()[0] for _ in range(9)) == 5
    with pytest.raises(Refused, match="expected a video"):
        film(tiny_model, b"nothing", target, View(labels=TREE), space, Limits())
    with pytest.raises(Refused, match=r"at most 0\.001 megapixels"):
        film(tiny_model, source, target, View(labels=TREE), space, Limits(megapixels=0.001))


def test_faults_of_the_command(tiny_model_folder, capsys):
    model = str(tiny_model_folder)
    assert main(["serve", model, model, model]) == 2
    assert "expected one or two MODELs, found 3" in capsys.readouterr().err
    assert main(["serve", model, "--precision", "0.9"]) == 2
    assert "never calibrated, so it can promise no precision" in capsys.readouterr().err
    assert main(["serve", model, "--host", "192.0.2.1"]) == 2
    assert "cannot listen there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", model, "--queue", "0"])
    with pytest.raises(SystemExit):
        main(["serve", model, "--port", "99999"])
    assert "from 0 to 65535, found '99999'" in capsys.readouterr().err


@pytest.fixture
def served(calibrated, tmp_path):
    """The address of `heteroseg serve MODEL MODEL` in a process of its own, which ends by Ctrl-C and leaves no file."""
    room = tmp_path / "room"
    room.mkdir()
    save_model(calibrated, tmp_path / "model")
    command = [sys.executable, "-m", "heteroseg", "serve", *[str(tmp_path / "model")] * 2]
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(room)}
    )
    yield re.match(r"(http://127\.0\.0\.1:\d+)/ for people", process.stdout.readline())[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)  # 0 where whoever runs the tests has interrupts ignored
    assert not list(room.iterdir())


def until(page, expression: str) -> None:
    """Waits; the page's policy keeps playwright's own way, `eval`, out."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def test_the_page_in_a_browser(served, photo, tiny_model, calibrated, scene, film_file, tmp_path):
    picture = tmp_path / "scene.png"
    picture.write_bytes(photo)
    tree = tiny_model.taxonomy
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(120_000)
        asked, faults = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.goto(served)
        page.locator("#model-1").wait_for()
        page.locator("#source").set_input_files(str(picture))
        for i in (0, 1):
            page.locator(f"#model-{i} canvas").wait_for()
        table = page.locator("#model-0 .labels")
        names = {tree.names[n] for n in np.unique(tiny_model.predict(scene).nodes())}
        assert set(table.locator("span").all_inner_texts()) <= names
        painted = page.evaluate(
            "[...document.querySelector('#model-0 canvas').getContext('2d').getImageData(90,11,1,1).data]"
        )
        indices, space = label_indices(tiny_model.predict(scene), View(labels=TREE))
        assert painted == [*space.labels[indices[11, 90]].color, 255]

        alone = "[...document.querySelector('#model-0 canvas').getContext('2d').getImageData(0,0,128,64).data]"
        page.locator("#model-0 .labels button").first.hover()
        first = page.locator("#model-0 .labels span").first.inner_text()
        seen = np.array(page.evaluate(alone)).reshape(64, 128, 4)[..., 3] > 0
        assert np.array_equal(seen, tiny_model.predict(scene).nodes() == tree.index(first))  # the rest is the image
        assert not page.locator("#difference").is_hidden()
        page.locator("#difference").check()
        assert not any(page.evaluate(alone)[3::4])  # the two are one model
        page.locator("#difference").uncheck()
        page.locator("#view").select_option("bar")
        page.locator("#model-0 .cut").fill("25")
        assert page.locator("#model-0 .photo").is_hidden()
        page.locator("#view").select_option("beside")

        page.locator("#model-0 canvas").click()  # in its middle
        for i in (0, 1):
            page.locator(f"#model-{i} .path table").wait_for()
        x, y = map(int, re.findall(r"Pixel x (\d+), y (\d+)", page.locator("#model-0 .path").inner_text())[0])
        assert abs(x - 64) <= 1
        assert abs(y - 32) <= 1
        wanted = path_at(tiny_model.predict(scene), x, y)
        rows = page.locator("#model-0 .path td:nth-child(2)").all_text_contents()
        assert [row.strip() for row in rows] == [step.node for step in wanted]

        page.locator("#depth").focus()
        page.keyboard.press("Home")  # the root alone
        until(page, "document.querySelector('#model-0 .labels').innerText.trim().startsWith('not sure')")
        until(page, "document.querySelectorAll('#model-1 .labels li').length == 1")
        assert page.locator("#model-0 .mark").count() == 2  # where was clicked, in the image and in the answer
        page.locator("#model-1 select").select_option("cityscapes")
        until(page, "document.querySelectorAll('#model-1 .labels li').length > 1")
        page.locator("#model-0 select").select_option("gtsdb")
        assert page.locator("#depth").is_disabled()  # where no answer is one of the tree
        page.locator("#model-0 select").select_option("tree")
        page.locator("#depth").fill(str(max(tree.depths)))
        page.locator("#precision").select_option("90 % of the time")
        sure = ["not sure", *{tree.names[n] for n in np.unique(calibrated.predict(scene).nodes(precision=0.9))}]
        shown = "[...document.querySelectorAll('#model-0 .labels span')].map(e => e.textContent)"
        until(page, f"{shown}.every(name => {sure}.includes(name))")
        page.locator("#back-off").fill("0.5")
        assert page.locator("#precision").input_value() == "0"  # one rule or the other
        assert cv2.imwrite(str(tmp_path / "scene.ppm"), scene[..., ::-1])
        page.locator("#source").set_input_files(str(tmp_path / "scene.ppm"))
        until(page, "document.querySelector('#model-0 img').naturalWidth == 128")  # browsers show no PPM
        assert cv2.imwrite(str(tmp_path / "large.png"), np.full((2000, 4000, 3), 90, np.uint8))
        page.locator("#source").set_input_files(str(tmp_path / "large.png"))
        until(page, "document.querySelector('#message').textContent.includes('made smaller, 2449 x 1224')")
        until(page, "document.querySelector('#model-0 canvas').width == 2449")
        page.locator("#source").set_input_files(str(film_file))
        page.get_by_text("5 frames").nth(1).wait_for()
        until(page, "document.querySelector('#model-1 video').videoWidth == 128")
        for name, data, told in (
            ("cut", photo[: len(photo) // 2], "cut off or damaged"),
            ("no", b"no", "expected an image"),
        ):
            (tmp_path / f"{name}.png").write_bytes(data)
            page.locator("#source").set_input_files(str(tmp_path / f"{name}.png"))
            until(page, f"document.querySelector('#message').textContent.includes({told!r})")
        for width, scheme in VIEWS:
            size = {"width": width, "height": 900}
            other = browser.new_page(viewport=size, color_scheme=scheme, bypass_csp=True)
            other.goto(served)
            other.locator("#model-1").wait_for()
            other.locator("#source").set_input_files(str(picture))
            other.locator("#model-1 .labels li").first.wait_for()
            other.locator("#model-0 canvas").click()
            other.locator("#model-1 .path table").wait_for()
            assert flaws(other) == []
            assert other.locator("#model-1 .answer").bounding_box()["width"] > 340  # also of two, on every screen
            other.close()
    assert not faults
    foreign = [url for url in asked if not url.startswith((served, "data:", "blob:"))]
    assert not foreign


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "roads.example"}, 200),
        ({"host": "evil.example"}, 421),  # a name that was pointed at this machine
        ({"host": "localhost.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "[::1"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "roads.example", "origin": "https://roads.example"}, 200),  # behind a proxy that ends TLS
    ],
)
def test_no_other_page_is_answered(client, photo, headers, status):
    for reply in (client.post("/v1/predict", content=photo, headers=headers), client.get("/", headers=headers)):
        assert reply.status_code == status
        assert "access-control-allow-origin" not in reply.headers
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/app.py", "/../pyproject.toml", "/%2e%2e/config.json", "/templates/app.js", "/etc/passwd"]
)
def test_no_file_of_the_machine_is_handed_out(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n",
        b"",
    ],
)
def test_lists_of_other_films_are_refused(client, body):
    reply = client.post("/v1/film", content=body)
    assert (reply.status_code, "expected a video" in reply.json()["error"]) == (415, True)


def test_examples_are_drawn_for_networks_of_the_demo(client, tiny_model):
    first, again = client.get("/v1/example/0"), client.get("/v1/example/0")
    assert (first.headers["content-type"], first.content) == ("image/png", again.content)
    assert client.get("/v1/example/99").status_code == 422
    assert [m["examples"] for m in client.get("/v1/models").json()] == [0, 0]
    with TestClient(
        build_app({"one": replace(tiny_model, name=SHIPPED.name)}, Limits()), base_url="http://127.0.0.1"
    ) as shipped:
        assert shipped.get("/v1/models").json()[0]["examples"] == 4


def test_a_film_comes_back_under_its_labels(client, film_file, tmp_path):
    reply = client.post("/v1/film?labels=tree&colors=cityscapes", content=film_file.read_bytes())
    assert (reply.headers["content-type"], reply.headers["heteroseg-frames"]) == ("video/webm", "5 frames")
    (tmp_path / "back.webm").write_bytes(reply.content)
    assert cv2.VideoCapture(str(tmp_path / "back.webm")).read()[1].shape == (64, 128, 3)


def test_a_map_comes_packed(client, tiny_model, scene, photo):
    answer = client.post("/v1/predict?labels=gtsdb&packed=true", content=photo).json()
    ids = np.frombuffer(zlib.decompress(base64.b64decode(answer["label_map"])), "<u2").reshape(64, 128)
    np.testing.assert_array_equal(ids, tiny_model.predict(scene).labels("gtsdb"))


def test_a_picture_comes_upright(client, photo):
    data = io.BytesIO()
    picture = Image.open(io.BytesIO(photo))
    exif = picture.getexif()
    exif[ImageOps.ExifTags.Base.Orientation] = 6
    picture.save(data, "webp", exif=exif)
    back = Image.open(io.BytesIO(client.post("/v1/picture", content=data.getvalue()).content))
    assert (back.format, back.size) == ("PNG", (64, 128))
