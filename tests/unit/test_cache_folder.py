"""One rule says where caches and fetched weights are kept."""

from __future__ import annotations

from pathlib import Path

from voc_cls.files import cache_folder, weights_folder


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    for name in ("VOC_CACHE_DIR", "VOC_CLS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/voc-cls"
    assert weights_folder() == tmp_path / ".cache/voc-cls/weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/voc-cls"
    monkeypatch.setenv("VOC_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert weights_folder() == tmp_path / "own/weights"
    monkeypatch.setenv("VOC_CLS_HOME", str(tmp_path / "home"))
    assert weights_folder() == tmp_path / "home/weights"
    assert cache_folder(Path("given")) == Path("given")
