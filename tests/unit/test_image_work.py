"""A file that costs more than its size says is refused by its structure, at once; every honest one passes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from tests import attacks
from tests.fuzzing import real_pictures
from tests.pictures import encoded, smooth
from voc_cls.image_decoder import Preprocessing, decode, prepare
from voc_cls.image_header import WORK_PER_PIXEL, ImageError, image_work

MOST = 64_000_000
SMALL = Preprocessing(8, (0.0, 0.0, 0.0))
VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", Path(__file__).parents[3] / "shared/voc2007/VOCdevkit/VOC2007"))


@pytest.mark.parametrize("name", attacks.REFUSED)
def test_an_attack_is_refused_before_it_is_decoded(name: str) -> None:
    make, reason = attacks.REFUSED[name]
    content = make()
    begin = time.process_time()
    with pytest.raises(ImageError, match=reason):
        image_work(content, MOST)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("name", attacks.HARMLESS)
def test_what_the_pixels_do_not_need_costs_nothing(name: str) -> None:
    content = attacks.HARMLESS[name]()
    begin = time.process_time()
    inputs = prepare(decode(image_work(content, MOST)), SMALL)
    assert inputs.shape == (8, 8, 3)
    assert time.process_time() - begin < 0.5


def test_pictures_of_every_kind_pass() -> None:
    for content in real_pictures():
        assert image_work(content, MOST).passes >= 24 * 32


def test_progressive_jpegs_of_the_largest_size_pass() -> None:
    work = image_work(attacks.many_scans(7900, WORK_PER_PIXEL), MOST)
    assert work.passes == WORK_PER_PIXEL * 7900**2
    usual = encoded(smooth(50, 70), "JPEG", progressive=True)
    assert image_work(usual, MOST).passes == 10 * 50 * 70  # libjpeg's own script


def test_more_scans_over_fewer_pixels_pass_up_to_the_limit() -> None:
    content = attacks.many_scans(400, 100)
    assert image_work(content, MOST).passes == 100 * 400**2
    with pytest.raises(ImageError, match=r"^too much work: JPEG of 0.2 megapixels, decoded in 100 passes; this server "
                                         r"makes up to 12 over 1 megapixels \(`max_megapixels`\)$"):
        image_work(content, 1_000_000)


def test_the_limit_is_on_all_frames_of_a_gif_and_on_the_canvas_that_they_span() -> None:
    frames = [Image.effect_noise((100, 50), 50) for _ in range(5)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 700)
    assert image_work(content, MOST).pixels == 100 * 50 * (1 + 5)
    with pytest.raises(ImageError, match="too large"):
        image_work(content, 100 * 50 * 6 - 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_a_file_that_is_cut_off_anywhere_is_refused(kind: str) -> None:
    content = encoded(smooth(20, 28), kind)
    for length in [*range(8, len(content) - 1, 7), len(content) - 2]:
        with pytest.raises(ImageError):
            decode(image_work(content[:length], MOST))


def test_all_real_pictures_pass() -> None:
    files = sorted((VOC2007_ROOT / "JPEGImages").glob("*.jpg"))
    if not files:
        pytest.skip("no VOC2007: set VOC2007_ROOT")
    for file in files:
        image_work(file.read_bytes(), 250_000)
