"""voc-nets: the table of networks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from voc_cls.cli.nets import main
from voc_cls.nets.registry import NETS, networks_as_text
from voc_cls.weights.fetch import SOURCES


def test_the_table_fits_80_columns_and_has_a_row_per_network(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split() for line in lines[1:1 + len(NETS)]}
    assert list(rows) == list(NETS)
    assert rows["resnet_v2_50"] == ["resnet_v2_50", "25,570,409", "299", "inception", "RGB", "75.6", "yes"]
    assert rows["alexnet_v2"][-2:] == rows["resnet_v2_200"][-2:] == ["–", "–"]
    assert rows["mobilenet_v1_0.5_160"][1:3] == ["1,332,105", "160"]


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]):
    assert main(["--json"]) == 0
    rows = {row["net"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(NETS)
    assert rows["vgg_16"] == {
        "net": "vgg_16", "parameters": 138_357_544, "size": 224, "normalisation": "vgg", "channels": "RGB",
        "head": "m_fc8", "top1": 71.5, "fetch": "vgg_16",
        "archive": "download.tensorflow.org/models/vgg_16_2016_08_28.tar.gz"}


def test_what_it_says_can_be_fetched_can_be_fetched(capsys: pytest.CaptureFixture[str]):
    main(["--json"])
    names = {row["fetch"] for row in json.loads(capsys.readouterr().out)}
    assert names - {None} == set(SOURCES) - {"vgg_16_conv"}


def test_the_text_for_a_help_has_the_same_rows():
    lines = networks_as_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:]] == list(NETS)


def test_it_is_quick_because_it_imports_little():
    code = "import sys; from voc_cls.cli.nets import main; main([]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert "voc_cls.nets.registry" in loaded
    assert not {"tensorflow", "keras", "onnx", "cv2", "matplotlib"} & set(loaded)
    assert len(loaded) < 500  # 280 today
