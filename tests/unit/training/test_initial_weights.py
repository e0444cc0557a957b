"""What `weights` and `weights_entry` name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.torch_files import Storage, Tensor, save
from voc_cls.errors import UsageError
from voc_cls.training.initial_weights import WeightsSource


def test_an_entry_chooses_within_a_weight_file_and_is_refused_without_one(tmp_path: Path):
    plain, averaged = Storage("0", np.zeros(6, np.float32)), Storage("1", np.ones(6, np.float32))
    content = {key: {"layer3.5.conv3.weight": Tensor(values, 0, (6,), (1,))}
               for key, values in (("model", plain), ("model_ema", averaged))}
    path = save(tmp_path / "w.pth", content, [plain, averaged])
    opened = WeightsSource.open(str(path), "resnet_v1_50", "model_ema").file
    assert opened is not None
    assert opened.read("resnet_v1_50/block3/unit_6/bottleneck_v1/conv3/weights").tolist() == [1] * 6
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    for weights in ("none", str(tmp_path / "run")):
        with pytest.raises(UsageError, match="`weights_entry` model_ema is for a weight file: omit it with `weights`"):
            WeightsSource.open(weights, "resnet_v1_50", "model_ema")
