"""The comparison trains, scores and tables for real; what is done is not done again."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from heteroseg.cli.main import main
from heteroseg.comparison.runner import open_base
from heteroseg.comparison.table import collect, markdown, rarest_third
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.model.model import load
from heteroseg.report.comparison import write_comparison


@pytest.fixture(scope="module")
def compared(tiny_experiment, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    assert main(["compare", str(tiny_experiment), "--out", str(out), "--ways", "hierarchical,concat"]) == 0
    return out


def test_table_holds_what_evaluate_says(compared, tiny_experiment, capsys):
    table = json.loads((compared / "table.json").read_text())["ways"]
    assert list(table) == ["hierarchical", "concat"]
    experiment, folder = load_experiment(tiny_experiment)
    wanted = evaluate(load(compared / "hierarchical" / "seed-0"), open_sources(experiment, folder))["datasets"]
    for dataset, entry in wanted.items():
        cell = table["hierarchical"]["datasets"][dataset]
        for metric in ("miou", "macc", "acc", "strict_miou"):
            assert cell[metric] == [entry[metric]]
        assert cell["levels"] == {depth: [level["miou"]] for depth, level in entry["levels"].items()}
        assert cell["rare_miou"] == [rarest_third(entry)]
        assert cell["tree_cost"][0] >= 1 - entry["acc"]  # what is wrong costs a step at least
        assert 0 <= cell["ece"]["1"][0] <= 1
    assert (
        table["concat"]["datasets"]["vistas"]["ece"].keys() == table["hierarchical"]["datasets"]["vistas"]["ece"].keys()
    )
    assert table["concat"]["parameters"] > 0
    assert table["hierarchical"]["train_seconds"][0] >= 0
    rows = list(csv.DictReader((compared / "table.csv").open()))
    assert len(rows) == 2 * 3 * 7
    value = next(r for r in rows if (r["way"], r["dataset"], r["metric"]) == ("concat", "vistas", "macc"))["value"]
    assert float(value) == pytest.approx(table["concat"]["datasets"]["vistas"]["macc"][0], abs=1e-6)
    page = (compared / "table.md").read_text()
    assert f"{100 * wanted['cityscapes']['miou']:.1f}" in page
    assert (compared / "table.png").stat().st_size > 10_000


def test_names_of_datasets_may_have_dots(tiny_experiment, tmp_path, monkeypatch):
    """What trains a part is told to score none of its datasets, whatever they are called."""
    data, commands = yaml.safe_load(tiny_experiment.read_text()), []
    data["datasets"] = {f"{name}.v1=small": entry for name, entry in data["datasets"].items()}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    stopped = SimpleNamespace(returncode=130, stdout="")
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command) or stopped)
    arguments = ["--out", str(tmp_path / "out"), "--ways", "hierarchical"]
    assert main(["compare", str(tmp_path / "experiment.yaml"), *arguments]) == 130
    words = next(command[4:] for command in commands if "train" in command)
    experiment, _ = load_experiment(words[0], [word for word in words if "=" in word])
    assert list(experiment.datasets) == list(data["datasets"])
    assert all(config.val is None for config in experiment.datasets.values())


def test_the_place_of_the_data_may_be_a_variable(tiny_data, tiny_experiment, monkeypatch):
    monkeypatch.setenv("STORE", str(tiny_data))
    base = open_base(*load_experiment(tiny_experiment, ["data_root=$STORE"]))
    assert base.experiment.data_root == str(tiny_data)


def test_what_is_done_is_kept_and_the_rest_is_made(compared, tiny_experiment, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(compared, out)
    (out / "concat" / "seed-0.json").unlink()
    weights = [out / way / "seed-0" / "last" / "model.safetensors" for way in ("hierarchical", "concat")]
    before = [w.stat().st_mtime_ns for w in weights]
    capsys.readouterr()
    assert main(["compare", str(tiny_experiment), "--out", str(out), "--ways", "hierarchical,concat"]) == 0
    said = capsys.readouterr().err
    assert "concat, seed 0" in said
    assert "hierarchical, seed 0" not in said
    assert [w.stat().st_mtime_ns for w in weights] == before, "scored again, not trained again"
    assert (out / "concat" / "seed-0.json").exists()
    arguments = ["compare", str(tiny_experiment), "--out", str(out), "--ways", "concat", "loss.weights={root: 0.5}"]
    assert main(arguments) == 0, "a weight of the tree's classifiers means nothing to this way"


def test_a_way_that_is_named_twice_is_one(compared, tiny_experiment, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(compared, out)
    assert main(["compare", str(tiny_experiment), "--out", str(out), "--ways", "concat,concat"]) == 0
    assert json.loads((out / "table.json").read_text())["ways"]["concat"]["seeds"] == [0]


def test_several_at_once_give_the_same(compared, tiny_experiment, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["compare", str(tiny_experiment), "--out", str(out), "--ways", "hierarchical,concat"]
    assert main([*arguments, "--jobs", "2"]) == 0
    said = capsys.readouterr().err
    assert "hierarchical, seed 0: done" in said
    assert "concat, seed 0: done" in said
    assert "step" in (out / "concat" / "seed-0.log").read_text(), "what the training says is kept"
    one, several = (json.loads((d / "table.json").read_text())["ways"] for d in (compared, out))
    assert list(one) == list(several)
    for way, row in one.items():
        for dataset, cell in row["datasets"].items():
            assert several[way]["datasets"][dataset]["macc"] == pytest.approx(cell["macc"], abs=0.02), (way, dataset)


def test_a_training_that_fails_among_several_names_its_log(tiny_experiment, tmp_path, capsys):
    arguments = ["compare", str(tiny_experiment), "--out", str(tmp_path / "out"), "--ways", "hierarchical,concat"]
    assert main([*arguments, "--jobs", "2", "train.crop=[33, 33]"]) == 2
    told = capsys.readouterr().err
    assert "seed-0.log" in told
    assert "Traceback" not in told
    log = next((tmp_path / "out").glob("*/seed-0.log"))
    assert "expected multiples" in log.read_text()


def test_parts_can_be_trained_by_hand(compared, tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(compared / "concat" / "experiment.yaml"), "--out", str(run), "train.steps=1"]) == 0
    assert set(json.loads((run / "evaluation.json").read_text())["datasets"]) == {"cityscapes", "vistas", "gtsdb"}


def test_faults(compared, tiny_experiment, tmp_path, capsys):
    def refused(*args: str) -> str:
        capsys.readouterr()
        assert main(["compare", str(tiny_experiment), *args]) == 2
        return capsys.readouterr().err

    assert "there is no way 'flatt'; did you mean 'flat'" in refused("--out", str(tmp_path / "a"), "--ways", "flatt")
    assert "train.begin: expected ways that all begin anew" in refused("--out", str(tmp_path / "a"), "train.begin=demo")
    assert "another experiment (train differ)" in refused("--out", str(compared), "--ways", "flat", "train.steps=3")
    assert "begun with other settings" in refused("--out", str(compared), "--ways", "hierarchical", "loss.balance=0.1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    assert "found something in it; it holds no comparison" in refused("--out", str(tmp_path / "b"))
    with pytest.raises(SystemExit):
        refused("--out", str(tmp_path / "b" / "mine.txt"))
    assert "expected a folder, found a file" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_rarest_third():
    classes = {str(n): {"pixels": n, "iou": n / 10} for n in (5, 1, 3, 2, 4)} | {"none": {"pixels": 0, "iou": None}}
    assert rarest_third({"per_class": classes}) == pytest.approx((0.1 + 0.2) / 2)
    assert rarest_third({"per_class": {"none": {"pixels": 0, "iou": None}}}) is None


def entry_of(miou: float | None, **more) -> dict:
    entry = dict.fromkeys(("miou", "macc", "acc"), miou) | {"rare_miou": None, "strict_miou": None, "claimed": None}
    return entry | {"levels": {}, "concepts": {"a": miou}} | more


def place(out: Path, ways: dict[str, list[dict]]) -> dict:
    """Scores by the place of a network and by seed, on the disk and in a table; a seed has entries by dataset."""
    folders: dict[str, list[Path]] = {}
    for name, seeds in ways.items():
        (out / name).mkdir(parents=True)
        for seed, datasets in enumerate(seeds):
            scored = {"parameters": 10, "train_seconds": 60.0, "datasets": datasets}
            (out / name / f"seed-{seed}.json").write_text(json.dumps(scored))
        whole, _, part = name.partition("/")
        for way in {whole, part} - {""}:
            folders.setdefault(way, []).append(out / name)
    return collect(folders)


def test_spread_over_seeds_and_gains(tmp_path):
    """A spread stands where there are several seeds, however many the other ways have."""
    values = {"hierarchical": (0.5, 0.6), "flat": (0.4, 0.4), "concat": (0.3,), "drop": ()}
    page = markdown(place(tmp_path, {way: [{"d": entry_of(v)} for v in each] for way, each in values.items()}))
    assert "| hierarchical | 2 | 55.0 ± 5.0 |" in page
    assert "| flat | 2 | 40.0 ± 0.0 | 40.0 ± 0.0 | 40.0 ± 0.0 | n/a |" in page
    assert "| concat | 1 | 30.0 | 30.0 | 30.0 | n/a |" in page
    assert "| flat | +15.0 / +15.0 |" in page
    assert "drop" not in page


def test_one_network_of_a_way_has_a_row_until_all_have(tmp_path):
    a, b = "specialists/specialists-a", "specialists/specialists-b"
    one, other = {"a": entry_of(0.5)}, {"b": entry_of(0.2)}
    table = place(tmp_path / "1", {a: [one, one], b: []})
    assert {way: row["seeds"] for way, row in table.items()} == {"specialists-a": [0, 1]}
    table = place(tmp_path / "2", {a: [one, one], b: [other]})
    assert {way: row["seeds"] for way, row in table.items()} == {"specialists": [0], "specialists-a": [0, 1]}
    assert table["specialists"]["parameters"] == 20
    assert "| specialists-a | 2 | 50.0 ± 0.0 |" in markdown(table)
    table = place(tmp_path / "3", {a: [one], b: [other]})
    assert list(table) == ["specialists"]


BETTER, SAME, WORSE = (0.6, 0.7), (0.45, 0.65), (0.1, 0.2)  # than 0.4 and 0.5
SAID = {
    "better": ((BETTER, BETTER), "the tree is better than one flat softmax by more than the spread in mIoU and mean"),
    "as good": ((SAME, SAME), "one flat softmax is as good as the tree in mIoU"),
    "worse": ((WORSE, WORSE), "one flat softmax is better than the tree in mIoU"),
    "some": ((BETTER, SAME), "better than one flat softmax by more than the spread in 2 of 4 figures of mIoU"),
    "one seed": ((BETTER[:1], SAME[:1]), "it is not known whether the tree is better than one flat softmax by more"),
}


@pytest.mark.parametrize("train", [True, False], ids=["left out", "no train part"])
@pytest.mark.parametrize("case", SAID)
def test_the_first_paragraph_says_whether_flat_is_as_good_on_unseen_data(tmp_path, case, train):
    """By the ways that leave a dataset out, and of a dataset that an experiment only evaluates."""
    values, told = SAID[case]
    rows: dict[str, list[dict]] = {}
    for dataset, ours in zip("ab", values, strict=True):
        theirs = (0.4, 0.5)[: len(ours)]
        for tree, scores, miss in ((True, ours, 0.1), (False, theirs, 0.3)):
            way = {True: "unseen", False: "unseen_flat"}[tree] if train else {True: "hierarchical", False: "flat"}[tree]
            entries = [entry_of(v, unseen=True, tree_cost=miss, ece={"1": 1 - v}) for v in scores]
            if train:
                rows[f"{way}/{way}-{dataset}"] = [{dataset: entry} for entry in entries]
            else:
                seen = rows.setdefault(way, [{"seen": entry_of(0.0)} for _ in scores])
                for scored, entry in zip(seen, entries, strict=True):
                    scored[dataset] = entry
    table = place(tmp_path, rows)
    page = markdown(table)
    first, whole = page.split("\n\n")[0], page.split("###")[0]
    assert first.startswith("On datasets that were not trained on")
    assert told in first
    judged = {"as good": "no better", "worse": "worse", "one seed": "too few seeds"}.get(case, "better")
    spread = "" if case == "one seed" else " ± 5.0"
    assert f"and {40 if spread == '' else 45}.0{spread} ({judged})" in whole
    assert "steps to the common ancestor, of 100 pixels 10.0" in whole
    assert "- seen" not in whole
    write_comparison(tmp_path / "c.html", "t", table, "name: e", {})
    paragraph = (tmp_path / "c.html").read_text().partition("<p>")[2].partition("</p>")[0]
    assert told in paragraph


def test_what_no_way_left_out_is_not_judged(tmp_path):
    page = markdown(place(tmp_path, {"hierarchical": [{"d": entry_of(0.5)}], "flat": [{"d": entry_of(0.4)}]}))
    assert "was not measured beside one flat softmax (--ways unseen,unseen_flat does it)" in page.split("\n\n")[0]


def test_calls_with_other_ways_and_seeds_go_on_in_one_folder(compared, tiny_experiment, tmp_path, capsys):
    """The table is that of the folder: one network of a way, more seeds of another, and nothing of other settings."""
    out = shutil.copytree(compared, tmp_path / "out")
    call = ["compare", str(tiny_experiment), "--out", str(out)]
    assert main([*call, "--ways", "specialists-gtsdb,unseen_flat-gtsdb"]) == 0
    assert main([*call, "--ways", "concat", "--seeds", "2"]) == 0
    rows = {way: row["seeds"] for way, row in json.loads((out / "table.json").read_text())["ways"].items()}
    assert rows == {"concat": [0, 1], "hierarchical": [0], "specialists-gtsdb": [0], "unseen_flat-gtsdb": [0]}
    table = json.loads((out / "table.json").read_text())["ways"]
    assert table["unseen_flat-gtsdb"]["datasets"]["gtsdb"]["unseen"]
    assert not table["specialists-gtsdb"]["datasets"]["gtsdb"]["unseen"]
    assert not (out / "specialists" / "specialists-vistas").exists()
    capsys.readouterr()
    assert main([*call, "--ways", "concat", "loss.weights={root: 0.5}"]) == 0
    told = capsys.readouterr()
    assert "hierarchical is not in the table" in told.err
    assert "| hierarchical |" not in told.out
    for wrong, said in [
        ("specialists-kitti", "specialists has no network 'specialists-kitti'; it has specialists-cityscapes"),
        ("concat-gtsdb", "concat has no network 'concat-gtsdb'; it is one network for all datasets"),
    ]:
        assert main([*call, "--ways", wrong]) == 2
        assert said in capsys.readouterr().err


def test_missing_data_is_told_before_training(tiny_experiment, tmp_path):
    experiment, folder = load_experiment(tiny_experiment, ["data_root=nowhere"])
    with pytest.raises(HeterosegError, match="nowhere"):
        open_base(experiment, folder)
