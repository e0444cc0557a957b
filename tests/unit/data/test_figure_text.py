"""Names in figures: fonts of the machine for other scripts, else escapes; long names lose their middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from rich.cells import cell_len

from voc_cls.data import figure_text
from voc_cls.data.figure_text import FigureText, shortened


@pytest.fixture
def only_cats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes this a machine with one more font than Matplotlib's: it has the character for cat."""
    pen = TTGlyphPen(None)
    for at, point in enumerate(((0, 0), (0, 700), (700, 700), (700, 0))):
        (pen.lineTo if at else pen.moveTo)(point)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", "cat"]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord("猫"): "cat"})
    font.setupGlyf(dict.fromkeys(names, square))
    font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Cats Sans", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cats.ttf")
    bundled = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "cats.ttf")])
    figure_text._installed.cache_clear()
    yield
    figure_text._installed.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


@pytest.mark.usefixtures("only_cats")
def test_a_font_of_the_machine_is_used_and_what_none_has_is_escaped():
    text = FigureText.of(["Hund é", "猫", "狗"])
    assert text.families[-1] == "Cats Sans"
    assert [text(name) for name in ("Hund é", "猫狗", "two\nlines")] == ["Hund é", "猫\\u72d7", "two\nlines"]


@pytest.mark.usefixtures("only_cats")
def test_what_is_made_drawable_draws_without_warnings_in_both_weights(
        tmp_path: Path, caplog: pytest.LogCaptureFixture):
    name = "猫 狗 قط बिल्ली แมว 👩‍👧 ❤️ \x07"
    text = FigureText.of([name])
    with text.drawing({}):
        figure = Figure()
        figure.text(0, 0.2, text(name))
        figure.text(0, 0.6, text(name), fontweight="bold")
        figure.savefig(tmp_path / "figure.png")
    assert caplog.records == []  # which would be on stderr


def test_names_in_latin_letters_need_no_other_font_and_no_search_for_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figure_text, "_installed", lambda: pytest.fail("searched"))
    assert len(FigureText.of(["cat", "naïve Köter", "кот"]).families) == 1


def test_long_names_keep_their_start_and_end_and_wide_characters_count_twice():
    assert shortened("aeroplane", 9) == "aeroplane"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("一二三四五六七八九", 9) == "一二…八九"
    assert all(cell_len(shortened("a一b二c三d四e五" * 3, width)) <= width for width in range(3, 30))
