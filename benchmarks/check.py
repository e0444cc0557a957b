"""Speed of `voc-data check`, relative to only decoding the same 10,000 images.

    python benchmarks/check.py [FOLDER_OF_JPEGS]

The images of the folder are repeated until there are 10,000, each made a different file by a comment in its JPEG
header. Without a folder, demo images are used. Each program runs in a separate process, from start to end, in turn,
three rounds. The best of each is shown, in elapsed time and in processor time; other programs disturb the latter less.
The limit: TensorFlow reads and decodes the files on all cores (tf.data, AUTOTUNE), without labels, digests or names.
OpenCV in threads is shown too. It starts faster, but a file that it decodes may be unreadable for training.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PICTURES, ROUNDS = 10_000, 3
TENSORFLOW = """
import sys, pathlib
from voc_cls.console import import_tensorflow
tf = import_tensorflow()
from voc_cls.data.preprocessing import decode
from voc_cls.image_decoder import Preprocessing
preprocessing = Preprocessing(size=1, mean=(0.0, 0.0, 0.0))
names = sorted(map(str, pathlib.Path(sys.argv[1]).rglob("*.jpg")))
decoded = tf.data.Dataset.from_tensor_slices(names).map(
    lambda name: tf.shape(decode(tf.io.read_file(name), preprocessing)), tf.data.AUTOTUNE)
print(sum(len(batch) for batch in decoded.batch(32).prefetch(tf.data.AUTOTUNE)))
"""
OPENCV = """
import sys, pathlib, os, cv2, numpy
from concurrent.futures import ThreadPoolExecutor
cv2.setNumThreads(1)
def decode(path): return cv2.imdecode(numpy.fromfile(path, numpy.uint8), cv2.IMREAD_COLOR) is not None
with ThreadPoolExecutor(os.cpu_count()) as pool:
    print(sum(pool.map(decode, sorted(pathlib.Path(sys.argv[1]).rglob("*.jpg")))))
"""


def main(source: Path | None) -> None:
    """Prints seconds, pictures a second and the ratio to decoding alone."""
    with tempfile.TemporaryDirectory() as folder:
        tree, devkit = make_sets(Path(folder), source)
        program = Path(sys.executable).with_name("voc-data")
        programs = {"TensorFlow, decode only": [sys.executable, "-c", TENSORFLOW, tree],
                    "OpenCV, decode only": [sys.executable, "-c", OPENCV, tree],
                    "voc-data check --data folder": [program, "check", "--data", "folder", "--root", tree],
                    "voc-data check --data voc": [program, "check", "--data", "voc", "--root", devkit]}
        best = dict.fromkeys(programs, (float("inf"), float("inf")))
        for _ in range(ROUNDS):
            for name, command in programs.items():
                wall, processors = taken(list(map(str, command)))
                best[name] = min(best[name][0], wall), min(best[name][1], processors)
    limit = next(iter(best.values()))
    print(f"{'':30} {'seconds':>8} {'images/s':>11} {'ratio':>6} {'CPU s':>7} {'ratio':>6}")
    for name, (wall, processors) in best.items():
        print(f"{name:30} {wall:8.2f} {PICTURES / wall:11.0f} {limit[0] / wall:6.2f} {processors:7.2f} "
              f"{limit[1] / processors:6.2f}")


def taken(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of all processors that a program and its children take."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_sets(folder: Path, source: Path | None) -> tuple[Path, Path]:
    """(a tree of two classes, a VOC devkit) of the same 10,000 different files."""
    from voc_cls.demo.devkit import write_demo

    demo = write_demo(folder / "demo", 300, seed=0)[0]
    originals = sorted((source or demo / "JPEGImages").glob("*.jpg"))
    xml = (demo / "Annotations/000001.xml").read_text()
    tree, devkit = folder / "tree", folder / "VOC2007"
    for path in (tree / "even", tree / "odd", devkit / "Annotations", devkit / "ImageSets/Main", devkit / "JPEGImages"):
        path.mkdir(parents=True)
    for number in range(PICTURES):
        picture = originals[number % len(originals)]
        comment = f"{number:08}".encode()
        content = picture.read_bytes()
        name = f"{number:06}"
        file = tree / ("odd" if number % 2 else "even") / f"{name}.jpg"
        file.write_bytes(content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:])
        (devkit / f"JPEGImages/{name}.jpg").hardlink_to(file)
        (devkit / f"Annotations/{name}.xml").write_text(annotation(xml, name, file))
    (devkit / "ImageSets/Main/trainval.txt").write_text("".join(f"{number:06}\n" for number in range(PICTURES)))
    shutil.rmtree(folder / "demo")
    return tree, devkit


def annotation(xml: str, name: str, file: Path) -> str:
    """The demo's annotation `xml` for another picture: its name and size, and boxes of ten pixels."""
    from voc_cls.data.files import read_header

    header = read_header(file)
    for tag, value in (("filename", f"{name}.jpg"), ("width", header.width), ("height", header.height), ("xmin", 1),
                       ("ymin", 1), ("xmax", 11), ("ymax", 11)):
        xml = re.sub(rf"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", xml)
    return xml


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
