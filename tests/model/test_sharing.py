"""Models are handed on with their card, and nothing but the named files goes to a hub or comes from it.

The hub is a small server in this process that speaks the routes that huggingface_hub asks for; huggingface_hub is real.
"""

import base64
import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants

import heteroseg
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.model.card import read_history
from heteroseg.model.hub import parse_name
from heteroseg.model.model import Model, load
from heteroseg.training.loop import train


class Hub(ThreadingHTTPServer):
    """Repositories as {name: {revision: {path: bytes}}}; `asked` has every request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Routes)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.asked: list[str] = []


def sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Routes(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, body: bytes | dict = b"", code: int = 200, **headers: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, what: str) -> None:
        self.answer({"error": f"{what} not found"}, 404, X_Error_Code=f"{what}NotFound")

    def files(self, repo: str, revision: str) -> dict[str, bytes] | None:
        if repo not in self.server.repos:
            return self.missing("Repo")
        branches = self.server.repos[repo]
        by_commit = {sha(files): files for files in branches.values()}
        found = branches.get(revision, by_commit.get(revision))
        return self.missing("Revision") if found is None else found

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            files = self.files(repo, revision)
            if files is not None and "tree" in parts:
                self.answer([{"type": "file", "path": p, "size": len(b), "oid": "0" * 40} for p, b in files.items()])
            elif files is not None:
                self.answer({"id": repo, "sha": sha(files), "siblings": [{"rfilename": p} for p in files]})
        elif "resolve" in parts:
            files = self.files("/".join(parts[:2]), parts[3])
            name = "/".join(parts[4:])
            if files is not None and name in files:
                tag = hashlib.sha1(files[name]).hexdigest()
                self.answer(files[name], ETag=f'"{tag}"', X_Repo_Commit=sha(files))
            elif files is not None:
                self.missing("Entry")
        else:
            self.answer({"error": "no such route"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.headers.get("Authorization"):
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.repos.setdefault(name, {"main": {}})
            self.answer({"url": f"{constants.ENDPOINT}/{name}", "name": name})
        elif path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            self.answer(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in json.loads(body)["files"]
                    ]
                }
            )
        elif "/commit/" in path:
            parts = path.strip("/").split("/")
            files = self.server.repos["/".join(parts[2:4])].setdefault(parts[5], {})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{constants.ENDPOINT}/{parts[2]}/{parts[3]}/commit/{sha(files)}"
            self.answer({"success": True, "commitOid": sha(files), "commitUrl": url, "pullRequestUrl": None})
        else:
            self.answer({"error": "no such route"}, 404)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_experiment) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    overrides = ["datasets.gtsdb.license=research | only", "datasets.gtsdb.notes=drawn by a program"]
    train(*load_experiment(tiny_experiment, overrides), out)
    return out


def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (40, 70, 3), np.uint8)


def same_answers(a: Model, b: Model) -> bool:
    return a.digest == b.digest and all(
        (a.predict(image()).labels(n) == b.predict(image()).labels(n)).all() for n in a.spaces
    )


def test_a_saved_model_has_a_card_from_its_run(trained, tmp_path):
    model = load(trained / "last")
    folder = model.save_pretrained(tmp_path / "shared", license="cc-by-nc-4.0")
    assert same_answers(load(folder), model)
    card = ModelCard.load(folder / "README.md")
    scores = json.loads((trained / "evaluation.json").read_text())["datasets"]
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "heteroseg"
    found = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results}
    for name, d in scores.items():
        assert found[name, "accuracy"] == pytest.approx(100 * d["acc"], abs=0.01)
        assert f"| {name} | {d['images']} | {100 * d['miou']:.1f} |" in card.text
    assert "research \\| only" in card.text
    assert "drawn by a program" in card.text
    assert 'prediction.labels("vistas")' in card.text
    assert str(trained) not in card.content
    # handed on once more, the card stays
    again = load(folder).save_pretrained(tmp_path / "again")
    assert (again / "README.md").read_text() == (folder / "README.md").read_text()


def test_the_card_of_best_has_the_scores_of_best(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    last = json.loads((run / "evaluation.json").read_text())
    for d in last["datasets"].values():
        d["miou"] = 0.99
    (run / "evaluation" / "0000001.json").write_text(json.dumps(last))
    assert {d["miou"] for d in read_history(run / "best")["scores"].values()} == {0.99}
    assert 0.99 not in {d["miou"] for d in read_history(run / "last")["scores"].values()}
    assert read_history(tmp_path) is None


def test_a_model_without_a_run_says_so(tiny_model, tmp_path):
    text = (tiny_model.save_pretrained(tmp_path / "m") / "README.md").read_text()
    assert "was not written from a run" in text
    assert "model-index" not in text


def test_nothing_is_overwritten(tiny_model, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(HeterosegError, match="expected a new or empty folder"):
            tiny_model.save_pretrained(place)


def test_to_the_hub_and_back(hub, trained, tmp_path):
    model = load(trained)
    assert model.push_to_hub("me/roads", license="mit").endswith("/me/roads")
    files = hub.repos["me/roads"]["main"]
    assert set(files) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "taxonomy.yaml",
        "label_spaces/cityscapes.yaml",
        "label_spaces/vistas.yaml",
        "label_spaces/gtsdb.yaml",
    }
    assert b"license: mit" in files["README.md"]
    assert b'heteroseg.load("hf://me/roads")' in files["README.md"]
    files |= {"evil.py": b"raise SystemExit", "pytorch_model.bin": b"pickle", "label_spaces/x.pkl": b"pickle"}
    for found in (
        heteroseg.load("hf://me/roads"),
        Model.from_pretrained("me/roads"),
        load(f"hf://me/roads@{sha(files)}"),
    ):
        assert same_answers(found, model)
    fetched = {p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert not any("evil" in asked or "pickle" in asked or ".bin" in asked or ".pkl" in asked for asked in hub.asked)
    assert "evil.py" not in fetched
    # without a network what is in the cache serves
    hub.asked.clear()
    assert same_answers(Model.from_pretrained("me/roads", local_files_only=True), model)
    assert hub.asked == []


def test_a_branch(hub, tiny_model):
    tiny_model.push_to_hub("me/roads@next")
    assert "config.json" in hub.repos["me/roads"]["next"]
    assert hub.repos["me/roads"]["main"] == {}
    assert load("hf://me/roads@next").digest == tiny_model.digest


def test_a_folder_and_a_name_on_the_hub_are_not_confused(hub, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model.save_pretrained("me/roads")
    assert load("me/roads").digest == tiny_model.digest  # load means folders
    with pytest.raises(HeterosegError, match=r"write hf://me/roads or \./me/roads"):
        Model.from_pretrained("me/roads")
    for name in ("./me/roads", Path("me/roads"), tmp_path / "me" / "roads"):
        assert Model.from_pretrained(name).digest == tiny_model.digest
    assert hub.asked == []
    with pytest.raises(HeterosegError, match="a model on a hub is named hf://owner/name"):
        load("me/other")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf://me/none", "no such model on the hub"),
        ("hf://me/roads@v9", "no revision 'v9'"),
        ("hf://me", "expected the name of a model on a hub"),
        ("hf://me/../etc", "expected the name of a model on a hub"),
        ("hf://me/empty", "expected a MODEL folder"),
    ],
)
def test_faults_of_names_are_one_sentence(hub, name, said):
    hub.repos |= {"me/roads": {"main": {"config.json": b"{}"}}, "me/empty": {"main": {"README.md": b"x"}}}
    with pytest.raises(HeterosegError, match=said) as caught:
        load(name)
    assert len(caught.value.faults) == 1
    assert "\n" not in caught.value.faults[0]


def test_without_a_hub(hub, tiny_model):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(HeterosegError, match="cannot be reached and the model is not in the cache"):
        load("hf://me/roads")
    with pytest.raises(HeterosegError, match="could not be uploaded"):
        tiny_model.push_to_hub("me/roads")


def test_names():
    assert parse_name("hf://me/a.b-c@v1.0") == ("me/a.b-c", "v1.0")
    assert parse_name("me/x@refs/pr/3") == ("me/x", "refs/pr/3")


def test_a_strangers_file_names_no_file_elsewhere(tiny_model, tmp_path):
    folder = tiny_model.save_pretrained(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"checksums": {}}  # as if the owner had changed it
    for change, said in (({"label_spaces": ["../../secret"]}, "label_spaces.0: expected a plain name"),):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(HeterosegError, match=said):
            load(folder)
    pretrained = config | {"model": config["model"] | {"pretrained": True}}
    (folder / "config.json").write_text(json.dumps(pretrained))
    assert load(folder).config.pretrained is False


def test_a_card_that_is_a_link_to_elsewhere_is_not_handed_on(tiny_model_folder, tmp_path):
    shutil.copytree(tiny_model_folder, tmp_path / "m")
    (tmp_path / "key").write_text("a secret")
    (tmp_path / "m" / "README.md").symlink_to("../key")
    with pytest.raises(HeterosegError, match=r"README.md: is a link to a file outside of the MODEL"):
        load(tmp_path / "m").save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "m" / "card").write_text("a card")
    (tmp_path / "m" / "README.md").unlink()
    (tmp_path / "m" / "README.md").symlink_to("card")
    assert (load(tmp_path / "m").save_pretrained(tmp_path / "out") / "README.md").read_text() == "a card"


def test_share_on_the_command_line(hub, trained, tmp_path, capsys):
    assert main(["share", str(trained), "--out", str(tmp_path / "m"), "--license", "mit"]) == 0
    assert (tmp_path / "m" / "README.md").is_file()
    assert main(["share", str(trained), "--push", "me/cli"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("/me/cli")
    assert "config.json" in hub.repos["me/cli"]["main"]
    for bad in (["--push", "cli"], ["--out", str(tmp_path)]):
        assert main(["share", str(trained), *bad]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_card_that_is_no_text_is_told(tiny_model_folder, tmp_path):
    shutil.copytree(tiny_model_folder, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(HeterosegError, match=r"README\.md: expected a text file in UTF-8"):
        load(tmp_path / "model").save_pretrained(tmp_path / "other")
