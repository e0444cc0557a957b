"""voc-train and voc-eval on a demo devkit: what a run folder holds, and what interrupts and mistakes do to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tests.commands import command_in_process as command
from tests.forked import start_command

HEAD = ("--head", "gap", "--image-size", 32, "--trainable", "head", "--weights", "none",
        "--steps", 130, "--batch-size", 8)


@pytest.fixture(scope="module")
def run(devkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head trained on the frozen backbone, with a validation split."""
    out = tmp_path_factory.mktemp("runs") / "head"
    done = command("voc-train", "--root", devkit, "--train-split", "train", "--val-split", "val", *HEAD, "--out", out)
    assert done.returncode == 0, done.stderr
    (out.parent / "stdout").write_text(done.stdout)
    assert done.stderr == ""
    return out


def weights(run: Path, name: str = "last.weights.h5") -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    with h5py.File(run / name) as file:
        file.visititems(lambda _, item: arrays.append(np.asarray(item)) if isinstance(item, h5py.Dataset) else None)
    assert arrays
    return arrays


def same(first: Path, second: Path) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_the_run_folder_holds_everything_needed_to_go_on_from_it(run: Path):
    for name in ("config.yaml", "labels.txt", "best.weights.h5", "last.weights.h5", "metrics.jsonl",
                 "evaluation.json", "checkpoints/step-00000130.npz", "tensorboard", "thresholds.json",
                 "predictions.csv", "report.html"):
        assert (run / name).exists(), name
    assert len((run / "labels.txt").read_text().split()) == 20
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["training"]["steps"] == 130
    assert config["provenance"]["versions"]["tensorflow"].startswith("2.")


def test_the_start_says_what_will_happen(run: Path):
    text = (run.parent / "stdout").read_text()
    for expected in ("device", "CPU", "10,260 parameters trained", "14,714,688 frozen", "epochs", "pictures",
                     "difficult objects", "ignored"):
        assert expected in text


def test_metrics_have_a_line_for_every_interval_and_end_at_the_last_step(run: Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert lines[-1]["step"] == 130
    assert all({"loss", "val_map", "lr", "seconds"} <= set(line) for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_best_weights_are_those_of_the_interval_with_the_highest_validation_map(run: Path):
    values = [json.loads(line)["val_map"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = command("voc-eval", run, "--split", "val", "--json", run.parent / "val.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((run.parent / "val.json").read_text())["map"] == pytest.approx(max(values), abs=1e-3)


def test_voc_eval_repeats_the_runs_own_numbers_and_writes_predictions(run: Path, tmp_path: Path):
    done = command("voc-eval", run, "--json", tmp_path / "eval.json", "--predictions", tmp_path / "p.csv")
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads((tmp_path / "eval.json").read_text()), json.loads((run / "evaluation.json").read_text())
    assert ours["map"] == pytest.approx(theirs["map"], abs=1e-3)
    assert ours["difficult"] == "ignored"
    assert set(ours["classes"]["car"]) >= {"ap", "ap_11pt", "positives"}
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert len(rows) == ours["pictures"] + 1
    assert rows[0].startswith("file,truth,ignored,aeroplane")


def test_the_same_seed_gives_the_same_weights(run: Path, tmp_path: Path):
    again = command("voc-train", "--config", run / "config.yaml", "--eval-split", "none", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert same(run, tmp_path / "again")


def test_several_seeds_make_a_run_each_as_alone_and_a_table_and_go_on_by_their_folder(
        run: Path, devkit: Path, tmp_path: Path):
    out = tmp_path / "seeds"
    flags = ("--root", devkit, "--train-split", "train", "--val-split", "val", *HEAD)
    assert command("voc-train", *flags, "--seeds", 1, "--out", out).returncode == 0
    stopped = json.loads((out / "seeds.json").read_text()) | {"seeds": [1, 0]}  # as a signal during seed 0 leaves it
    (out / "seeds.json").write_text(json.dumps(stopped))
    done = command("voc-train", "--out", out, "--resume", "--seeds", 2)
    assert done.returncode == 0, done.stderr
    assert "all 130 steps are done already" in done.stdout
    assert same(out / "seed-0", run)  # although another seed was trained in this process before
    assert not same(out / "seed-1", run)
    summary = json.loads((out / "seeds.json").read_text())
    scores = [json.loads((out / f"seed-{seed}" / "evaluation.json").read_text())["map"] for seed in (1, 0, 2)]
    assert summary["seeds"] == [1, 0, 2]
    assert [summary["results"][seed]["mAP"] for seed in ("1", "0", "2")] == scores
    assert summary["mean"]["mAP"] == pytest.approx(np.mean(scores))
    assert summary["standard_deviation"]["mAP"] == pytest.approx(np.std(scores, ddof=1))
    shown = " .*".join(f"{100 * score:.1f}" for score in (*scores, np.mean(scores)))
    assert re.search(rf"mAP .*{shown}", done.stdout)

    refused = command("voc-train", *flags, "--seeds", 1, 1, "--out", tmp_path / "twice")
    assert refused.returncode == 2
    assert "--seeds 1 1: a seed is there twice" in refused.stderr
    refused = command("voc-train", "--out", out, "--resume", "--seeds", 1, -1)
    assert refused.returncode == 2
    assert refused.stderr == "voc-train: error: --seeds -1: must be from 0 to 4294967295\n"
    assert "choose another folder" in command("voc-train", *flags, "--seeds", 1, "--out", out).stderr


def test_a_killed_run_resumes_to_the_weights_of_one_never_killed(devkit: Path, tmp_path: Path):
    flags = ["--root", devkit, "--train-split", "train", "--eval-split", "none", *HEAD[:-4], "--steps", 600,
             "--batch-size", 8, "--keep-checkpoints", 2, "--schedule", "cosine", "--warmup-steps", 50]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command("voc-train", *flags, "--out", whole).returncode == 0
    process = start_command("voc-train", *flags, "--out", killed, output=tmp_path / "said", errors=tmp_path / "errors")
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoints/step-*.npz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "last.weights.h5").exists()
    resumed = command("voc-train", *flags, "--out", killed, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert same(whole, killed)
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 600


def test_all_layers_train_with_everything_there_is_to_ask_for(devkit: Path, tmp_path: Path):
    done = command("voc-train", "--root", devkit, "--weights", "none", "--net", "alexnet_v2", "--head", "gap+max",
                   "--image-size", 67, "--steps", 4, "--batch-size", 4, "--eval-split", "none", "--augment", "lecture",
                   "--mixup", 0.2, "--cutmix", 1.0, "--loss", "asymmetric", "--class-weights", "balanced",
                   "--label-smoothing", 0.1, "--accumulate", 2, "--clip-norm", 1, "--ema", 0.9,
                   "--head-lr-multiplier", 10, "--layer-decay", 0.5,
                   "--cache", "disk", "--cache-dir", tmp_path / "cache", "--early-stopping", 3, "--val-fraction", 0.3,
                   "--precision", "bfloat16", "--interval", 2, "--out", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    for expected in ("0 frozen", "the whole network, on pictures: all layers are trained", "lecture, horizontal",
                     "mixup 0.2", "0.0001", "asymmetric, label smoothing 0.1, class weights balanced, bfloat16",
                     "ema 0.9", "clip norm 1", "accumulate 2", "decoded pictures", "validation part"):
        assert expected in " ".join(done.stdout.split()), expected
    assert (tmp_path / "all/last.raw.weights.h5").is_file()


def test_sigterm_saves_and_leaves_with_143_and_a_second_run_uses_the_cached_features(devkit: Path, tmp_path: Path):
    flags = ["--root", devkit, "--train-split", "train", "--eval-split", "none", *HEAD[:-4], "--steps", 100000,
             "--batch-size", 8, "--out", tmp_path / "run", "--cache-dir", tmp_path / "cache"]
    process = start_command("voc-train", *flags, output=tmp_path / "said", errors=tmp_path / "errors")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/metrics.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, said, errors = process.wait(60), (tmp_path / "said").read_text(), (tmp_path / "errors").read_text()
    assert code == 143, errors
    assert re.search(r"stopped by SIGTERM; step \d+ of 100000 is saved, continue with --resume and --out ", errors)
    assert "to compute and keep in" in said
    again = command("voc-train", *flags[:-4], "--steps", 50, "--out", tmp_path / "other", "--cache-dir",
                    tmp_path / "cache")
    assert again.returncode == 0, again.stderr
    assert re.search(r"features of the frozen layers: \d+ from the cache", again.stdout)
    assert "to compute" not in again.stdout


def test_a_run_is_never_overwritten_and_resume_wants_the_same_flags(run: Path, devkit: Path):
    taken = command("voc-train", "--root", devkit, *HEAD, "--out", run)
    assert taken.returncode == 2
    assert taken.stderr.count("\n") == 1
    assert "exists already" in taken.stderr
    other = command("voc-train", "--root", devkit, "--train-split", "train", "--val-split", "val", *HEAD, "--lr", 0.5,
                    "--out", run, "--resume")
    assert other.returncode == 2
    assert "lr was 0.002, is 0.5" in other.stderr


def test_a_run_starts_from_an_earlier_one_with_its_head(run: Path, devkit: Path, tmp_path: Path):
    flags = ("--root", devkit, "--train-split", "train", "--val-split", "val", "--eval-split", "none", "--weights", run,
             "--trainable", "head", "--steps", 1, "--lr", 1e-12)
    second = command("voc-train", *flags, "--head", "gap", "--image-size", 32, "--out", tmp_path / "second")
    assert second.returncode == 0, second.stderr
    assert f"the best of {run}, with its head" in second.stdout
    for ours, theirs in zip(weights(tmp_path / "second"), weights(run, "best.weights.h5"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    other = command("voc-train", *flags, "--head", "gap+max", "--out", tmp_path / "third")
    assert other.returncode == 1
    assert "that run has --head gap, this one gap+max" in other.stderr
    assert not (tmp_path / "third").exists()


def test_a_run_resumes_by_its_folder_alone_and_not_with_other_weights(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    resumed = command("voc-train", "--out", copy, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "are done already" in resumed.stdout
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("weights_digest: null", "weights_digest: abc"))
    refused = command("voc-train", "--out", copy, "--resume")
    assert refused.returncode == 1
    assert "has another weights_digest" in refused.stderr


@pytest.mark.parametrize(("flags", "told"), [
    (("--trainable", "conv9+"), "--trainable conv9+: matches no layer; give head, all, conv1+"),
    (("--image-size", "16"), "--image-size 16: must be from 32 to 2048"),
    (("--zoom", "2"), "--zoom 2: must be from 0 to 0.9"),
    (("--val-split", "val"), "--val-split val: 13 of its 13 pictures are in --train-split trainval too"),
    (("--eval-split", "tset"), "--eval-split tset: "),
])
def test_a_wrong_flag_is_told_before_anything_is_written(devkit: Path, tmp_path: Path, flags: tuple[str, str],
                                                         told: str):
    done = command("voc-train", "--root", devkit, *HEAD, *flags, "--out", tmp_path / "run")
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_training_that_diverges_says_so(devkit: Path, tmp_path: Path):
    done = command("voc-train", "--root", devkit, "--train-split", "train", "--val-split", "val", *HEAD, "--lr", 1e30,
                   "--eval-split", "none", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert re.search(r"diverged: the loss is (nan|inf) at step \d, whose pictures are \d{6}\.jpg, ", done.stderr)
    assert "Traceback" not in done.stderr


def test_an_unfinished_run_is_not_evaluated(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "last.weights.h5").unlink()
    done = command("voc-eval", copy)
    assert done.returncode == 1
    assert "not finished" in done.stderr


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(devkit: Path, tmp_path: Path):
    done = command("voc-train", "--root", devkit, "--weights", tmp_path / "missing.ckpt", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "missing.ckpt" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_picture_that_cannot_be_decoded_is_named(devkit: Path, tmp_path: Path):
    copy = tmp_path / "VOC2007"
    shutil.copytree(devkit, copy)
    victim = copy / "JPEGImages" / f"{(copy / 'ImageSets/Main/train.txt').read_text().split()[3]}.jpg"
    data = bytearray(victim.read_bytes())
    data[200:] = os.urandom(len(data) - 202) + b"\xff\xd9"  # header and end are those of a JPEG
    victim.write_bytes(bytes(data))
    done = command("voc-train", "--root", copy, "--train-split", "train", *HEAD, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stdout
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_or_read_only_folder_is_one_sentence(devkit: Path):
    done = command("voc-train", "--root", devkit, *HEAD, "--out", "/proc/run")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
