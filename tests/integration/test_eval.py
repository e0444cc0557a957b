"""voc-eval on a trained run: the files it renews, those it leaves alone, and what a terminal shows."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from lxml import html

from tests.commands import BIN
from tests.commands import command_in_process as command

RESULTS = ("evaluation.json", "predictions.csv", "report.html", "thresholds.json", "calibration.json")


@pytest.fixture(scope="module")
def run(devkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head trained for a moment on the frozen backbone, with a validation split."""
    folder = tmp_path_factory.mktemp("runs")
    done = command("voc-train", "--root", devkit, "--train-split", "train", "--val-split", "val", "--head", "gap",
                   "--trainable", "head", "--weights", "none", "--cut", "pool2", "--image-size", 64, "--steps", 60,
                   "--lr", 0.02, "--batch-size", 8, "--out", folder / "head", VOC_CACHE_DIR=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    return folder / "head"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_ends_with_all_results(run: Path):
    for name in RESULTS:
        assert (run / name).is_file(), name
    tree = html.parse(str(run / "report.html")).getroot()
    assert tree.find("body/header/h1").text == "head"
    assert len(tree.xpath("//li[starts-with(@class, 'cam')]")) > 0


def test_its_own_evaluation_renews_the_files_in_the_run_folder(run: Path):
    before = json.loads((run / "evaluation.json").read_text())
    for name in RESULTS:
        (run / name).unlink()
    done = command("voc-eval", run, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert {Path(line.removeprefix("written: ")) for line in lines[-5:]} == {run / name for name in RESULTS}
    assert max(map(len, lines[:-5])) <= 80
    after = json.loads((run / "evaluation.json").read_text())
    for key in ("map", "map_11pt", "cf1", "of1"):
        assert after[key] == pytest.approx(before[key], abs=0.02), key
    with (run / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == after["pictures"]


def test_another_evaluation_writes_only_where_it_is_told_and_may_be_cut_off_by_head(run: Path, tmp_path: Path):
    before = contents(run)
    flags = ("--split", "val", "--weights", "last", "--tta", "flip", "--classes", "cat", "dog", "--json",
             tmp_path / "out.json", "--report", tmp_path / "out.html", "--predictions", tmp_path / "out.csv")
    done = subprocess.run(["bash", "-c", '"$0" "$@" | head -n 1; exit "${PIPESTATUS[0]}"', BIN / "voc-eval", run,
                           *flags], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Average precision" in done.stdout
    assert contents(run) == before
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values["classes"]) == ["cat", "dog"]
    assert (values["weights"], values["tta"]) == ("last", "flip")
    facts = html.parse(str(tmp_path / "out.html")).getroot().find("body/header/ul").text_content()
    assert "last" in facts
    assert "flip" in facts
    assert "tvmonitor" in (tmp_path / "out.csv").read_text().splitlines()[0]


def probabilities(file: Path) -> np.ndarray:
    with file.open(newline="") as lines:
        return np.array([[float(value) for value in row[3:]] for row in list(csv.reader(lines))[1:]])


def scale_weights(file: Path, factor: float) -> None:
    def scale(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
            item[...] = item[...] * factor

    with h5py.File(file, "r+") as weights:
        weights.visititems(scale)


def test_several_runs_are_evaluated_by_the_mean_of_their_logits_and_left_alone(run: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    scale_weights(other / "best.weights.h5", 0.9)
    before, found = contents(other), {}
    for name, runs in {"run": (run,), "other": (other,), "both": (run, other)}.items():
        done = command("voc-eval", *runs, "--no-write", "--predictions", tmp_path / f"{name}.csv", "--json",
                       tmp_path / f"{name}.json")
        assert done.returncode == 0, done.stderr
        found[name] = probabilities(tmp_path / f"{name}.csv")
    assert contents(other) == before
    logits = {name: np.log(values / (1 - values)) for name, values in found.items()}
    assert np.abs(logits["run"] - logits["other"]).max() > 0.01
    np.testing.assert_allclose(logits["both"], (logits["run"] + logits["other"]) / 2, atol=1e-3)
    values = json.loads((tmp_path / "both.json").read_text())
    assert values["runs"] == [str(run), str(other)]
    assert values["calibration"]["fitted"] is not None  # both were validated on the same pictures


def test_runs_that_are_evaluated_on_other_pictures_are_refused(run: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("eval_split: test", "eval_split: val"))
    done = command("voc-eval", run, other)
    assert done.returncode == 2
    assert "pass the same --root and --split" in done.stderr


def test_a_run_is_compared_with_another_by_what_it_predicted_before(run: Path, tmp_path: Path):
    other, before = tmp_path / "other", contents(run)
    shutil.copytree(run, other)
    lines = (other / "predictions.csv").read_text().splitlines()
    values, thresholds = lines[1].split(","), json.loads((run / "thresholds.json").read_text())["classes"]
    decided = [float(value) >= thresholds[label]["threshold"]
               for label, value in zip(lines[0].split(",")[3:], values[3:], strict=True)]
    lines[1] = ",".join([*values[:3], *("0.000001" if positive else "0.999999" for positive in decided)])
    (other / "predictions.csv").write_text("\n".join(lines))
    done = command("voc-eval", run, other, "--compare", "--bootstrap", 100, "--json", tmp_path / "compare.json",
                   "--report", tmp_path / "compare.html", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["models"] == [str(run), str(other)]
    assert found["differences"][0]["name"] == "mean"
    changed = {change["file"] for change in found["changes"] if change["verdict"] != "same decision"}
    assert changed == {values[0]}
    page = html.parse(str(tmp_path / "compare.html")).getroot()
    assert {image["file"] for image in json.loads(page.get_element_by_id("gallery").text)["images"]} == changed
    assert contents(run) == before

    assert "found 1; give A and B" in command("voc-eval", run, "--compare").stderr


def test_heat_maps_are_compared_with_the_boxes_on_request(run: Path, tmp_path: Path):
    done = command("voc-eval", run, "--pointing", "--no-write", "--json", tmp_path / "out.json", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values["sizes"]) == ["small", "medium", "large"]
    cats = [result["classes"]["cat"]["positives"] for result in (*values["sizes"].values(), values)]
    assert sum(cats[:3]) == cats[3] > 0
    assert 0 <= values["pointing"]["accuracy"] <= 1
    assert json.loads((run / "evaluation.json").read_text())["pointing"] is None


def test_without_a_run_it_asks_for_one():
    done = command("voc-eval")
    assert done.returncode == 2
    assert "name the run folder" in done.stderr


def test_a_folder_that_does_not_exist_is_told_at_once(run: Path, tmp_path: Path):
    done = command("voc-eval", run, "--report", tmp_path / "missing/report.html")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--report" in done.stderr
    assert "missing does not exist" in done.stderr


def test_suspects_are_judged_on_the_features_that_the_run_kept(run: Path, tmp_path: Path):
    before = contents(run)
    done = command("voc-data", "suspects", run, "--folds", 2, "--json", "--html", tmp_path / "page.html", "--csv",
                   tmp_path / "suspects.csv", VOC_CACHE_DIR=str(run.parent / "cache"))
    assert done.returncode == 0, done.stderr
    assert "to compute" not in done.stderr
    values = json.loads(done.stdout)
    with (tmp_path / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [suspect["file"] for suspect in values["suspects"]]
    shown = html.parse(str(tmp_path / "page.html")).xpath("//li/span/img[not(@class)]")
    assert len(rows) == values["pictures"] == len(shown)
    assert contents(run) == before


def test_the_images_to_label_next_are_unlabelled_ones_with_predictions_for_label_studio(
        run: Path, devkit: Path, tmp_path: Path):
    (tmp_path / "photos/more").mkdir(parents=True)
    images = {split: (devkit / f"ImageSets/Main/{split}.txt").read_text().split() for split in ("train", "test")}
    for name in (*images["train"][:3], *images["test"][:6]):
        shutil.copy(devkit / f"JPEGImages/{name}.jpg", tmp_path / f"photos/{name}.jpg")
    shutil.copy(devkit / f"JPEGImages/{images['test'][0]}.jpg", tmp_path / "photos/more/copy.jpg")
    flags, cache = ("next", run, tmp_path / "photos", "--count", 4), {"VOC_CACHE_DIR": str(run.parent / "cache")}
    done = command("voc-data", *flags, "--json", "--label-studio", tmp_path / "tasks.json", **cache)
    assert done.returncode == 0, done.stderr
    assert "6 of 10 pictures are neither known to be labelled nor copies of others" in done.stderr
    chosen = json.loads(done.stdout)["next"]
    assert len({Path(entry["file"]).stem for entry in chosen} & {*images["test"][:6], "copy"}) == 4
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [Path(task["data"]["image"]).name for task in tasks] == [Path(entry["file"]).name for entry in chosen]
    assert [[choice for item in task["predictions"][0]["result"] for choice in item["value"]["choices"]]
            for task in tasks] == [entry["predicted"] for entry in chosen]
    done = command("voc-data", *flags, **cache)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(row["file"], row["predicted"]) for row in rows] == [
        (entry["file"], "|".join(entry["predicted"])) for entry in chosen]
    done = command("voc-data", "next", run, devkit / f"JPEGImages/{images['train'][0]}.jpg", **cache)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("all are labelled already; name others\n")


def test_suspects_name_what_is_missing_before_anything_is_computed(run: Path, tmp_path: Path):
    for flags, found in (((run, "--csv", tmp_path / "missing/out.csv"), "missing does not exist"),
                         ((tmp_path,), "not a run folder"), ((run, "--split", "x"), "no such split"),
                         ((run, "--group", "x("), "--group x(: is neither a column")):
        done = command("voc-data", "suspects", *flags, VOC_CACHE_DIR=str(tmp_path / "cache"))
        assert done.returncode > 0
        assert done.stderr.count("\n") == 1
        assert found in done.stderr
    assert not (tmp_path / "cache").exists()
