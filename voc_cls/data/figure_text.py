"""Figures: names of classes and files in any script that this machine has a font for, otherwise as escapes.

Matplotlib's own font lacks Chinese, Japanese, Korean, Devanagari, Thai and most emoji; each is a box and a warning.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells

from voc_cls.errors import DataError
from voc_cls.files import write_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

@dataclass(frozen=True)
class FigureText:
    """Makes texts drawable with `families` as Matplotlib's font.family, which is a list of fallbacks."""

    families: tuple[str, ...]
    undrawable: frozenset[str]
    """Characters for which there is no font."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> FigureText:
        """With the fonts that `texts` need."""
        from matplotlib import rcParams

        families = list(rcParams["font.family"])
        needed = {character for text in texts for character in text if not character.isspace()}
        with _quiet():
            needed = needed.difference(*map(_characters, families))
            while needed:
                covers = {name: needed & _characters(name) for name in _installed()}
                family = max(covers, default="", key=lambda name: (len(covers[name]), "Sans" in name, name))
                covered = covers.get(family)
                if not covered:
                    break
                families.append(family)
                needed -= covered
        return cls(tuple(families), frozenset(needed))

    @contextmanager
    def drawing(self, settings: dict[str, Any]) -> Iterator[None]:
        """Around the drawing: with the fonts, and with Matplotlib's other `settings`."""
        from matplotlib import rc_context

        with _quiet(), rc_context({"font.family": self.families, "text.parse_math": False, **settings}):
            yield

    def __call__(self, text: str, width: int | None = None) -> str:
        """The text with escapes such as \\u732b for what cannot be drawn, shortened to `width` columns."""
        drawn = "".join(map(self._drawn, text))
        return drawn if width is None else shortened(drawn, width)

    def _drawn(self, character: str) -> str:
        if character not in self.undrawable:
            return character
        # joiners, marks of direction and variation selectors, such as that of an emoji in colours, are invisible
        invisible = unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
        return "" if invisible else ascii(character)[1:-1]


def shortened(text: str, width: int) -> str:
    """A text of at most `width` columns, of which wide characters take two; what is too long loses its middle."""
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{chop_cells(text, width - 1 - end)[0]}…{chop_cells(text[::-1], end)[0][::-1]}"


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all; DataError where it cannot be written."""
    try:
        write_aside(path, lambda aside: figure.savefig(aside, format="png"))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Matplotlib logs a warning for each font that has no bold variant."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@cache
def _installed() -> tuple[str, ...]:
    """Families of the machine's fonts; Matplotlib's list may be older than some of them."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts, fontManager

    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(Exception):  # FreeType raises errors of many kinds for fonts that it cannot read
            fontManager.addfont(path)
    return tuple({entry.name for entry in fontManager.ttflist if not entry.fname.startswith(get_data_path())})


@cache
def _characters(family: str) -> frozenset[str]:
    """What a family can draw in bold, which figures use too and which may have fewer characters than the normal weight;
    fonts of bitmaps or colours, and of boxes for every character, nothing."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    if "Color" in family or "lastresort" in family.lower().replace(" ", ""):
        return frozenset()
    try:
        font = get_font(fontManager.findfont(FontProperties(family=family, weight="bold"), fallback_to_default=False))
    except (ValueError, RuntimeError, OSError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
