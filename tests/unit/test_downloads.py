"""One file over HTTP, from a real server that behaves well or badly."""

import functools
import gzip
import socket

import numpy as np
import pytest

from voc_cls.downloads import BREAKS, download
from voc_cls.errors import DownloadError

GZIP = b"\x1f\x8b"
fetch = functools.partial(download, magic=GZIP, pause_s=0.01)


@pytest.fixture(scope="module")
def body():
    """A megabyte that begins like a .gz."""
    return GZIP + np.random.default_rng(0).bytes(1_000_000)


def left_in(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_arrives_whole_and_nothing_else_stays(body, file_server, tmp_path):
    server = file_server(body)
    fetch(server.url("vgg.tar.gz"), tmp_path / "new/vgg.tar.gz")
    assert (tmp_path / "new/vgg.tar.gz").read_bytes() == body
    assert left_in(tmp_path / "new") == ["vgg.tar.gz"]
    assert len(server.requests) == 1


def test_a_download_that_breaks_off_is_carried_on_from_where_it_stopped(body, file_server, tmp_path):
    server = file_server(body)
    server.breaks = [400_000, 300_000]
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body
    assert len(server.requests) == 3
    starts = [int(asked["Range"].removeprefix("bytes=").removesuffix("-")) for asked in server.requests[1:]]
    assert 300_000 < starts[0] <= 400_000
    assert 600_000 < starts[1] <= 700_000
    assert {asked["If-Range"] for asked in server.requests[1:]} == {'"first"'}


def test_what_arrived_is_kept_for_the_next_call_when_a_server_keeps_breaking_off(body, file_server, tmp_path):
    server = file_server(body)
    server.breaks = [100_000] * (BREAKS + 1)
    with pytest.raises(DownloadError, match=f"broke off {BREAKS + 1} times .* run the command again to carry on"):
        fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert left_in(tmp_path) == ["vgg.tar.gz.part", "vgg.tar.gz.part.version"]
    asked_before = len(server.requests)
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body
    assert len(server.requests) == asked_before + 1
    assert "Range" in server.requests[-1]
    assert left_in(tmp_path) == ["vgg.tar.gz"]


def test_a_server_without_ranges_sends_the_file_again_from_the_start(body, file_server, tmp_path):
    server = file_server(body)
    server.ranges, server.breaks = False, [500_000]
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body


@pytest.mark.parametrize("new_size", [1_200_000, 300_000])
def test_a_file_that_changed_between_two_tries_is_not_glued_together(new_size, body, file_server, tmp_path):
    server = file_server(body)
    server.breaks = [100_000] * (BREAKS + 1)
    with pytest.raises(DownloadError):
        fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    server.body, server.etag = GZIP + b"n" * new_size, '"second"'
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == server.body


def test_without_a_way_to_know_the_version_a_broken_download_starts_again(body, file_server, tmp_path):
    server = file_server(body)
    server.etag, server.breaks = "", [500_000]
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body
    assert all("Range" not in asked for asked in server.requests)


def test_a_weak_etag_is_not_used_but_the_date_of_the_last_change_is(body, file_server, tmp_path):
    server = file_server(body)
    server.etag, server.breaks = 'W/"first"', [500_000]
    server.headers = {"Last-Modified": "Sun, 28 Aug 2016 00:00:00 GMT"}
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert server.requests[1]["If-Range"] == "Sun, 28 Aug 2016 00:00:00 GMT"
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_range_that_was_not_asked_for_is_not_used(shift, body, file_server, tmp_path):
    server = file_server(body)
    server.range_shift, server.breaks = shift, [500_000]
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body


def test_a_part_longer_than_the_file_has_become_is_thrown_away(body, file_server, tmp_path):
    server = file_server(body[:400_000])
    (tmp_path / "vgg.tar.gz.part").write_bytes(body[:500_000])
    (tmp_path / "vgg.tar.gz.part.version").write_text('"first"')
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body[:400_000]


def test_a_server_that_is_busy_is_asked_again(body, file_server, tmp_path):
    server = file_server(body)
    server.statuses = [503, 429]
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_names_the_address_the_status_and_the_ways_out(status, body, file_server, tmp_path):
    server = file_server(body)
    server.statuses = [status]
    with pytest.raises(DownloadError, match=rf"{server.url('gone.tar.gz')}: the server answered {status} .*"
                                           "a mirror with `url`, or the file with `archive`"):
        fetch(server.url("gone.tar.gz"), tmp_path / "gone.tar.gz")
    assert left_in(tmp_path) == []


def test_a_web_page_in_place_of_the_file_is_refused_at_once(file_server, tmp_path):
    server = file_server(b"<!DOCTYPE html><title>Please log in</title>" + b" " * 1_000_000)
    server.headers = {"Content-Type": "text/html"}
    with pytest.raises(DownloadError, match="not the file it should be: the server sent text/html that begins with "
                                           "'<!DOCTYPE html><titl'; does a proxy or a login page stand between"):
        fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert left_in(tmp_path) == []


def test_an_archive_sent_as_an_encoding_stays_an_archive(file_server, tmp_path):
    packed = gzip.compress(b"weights" * 1000)
    server = file_server(packed)
    server.headers = {"Content-Encoding": "gzip"}
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz")
    assert (tmp_path / "vgg.tar.gz").read_bytes() == packed


def test_a_server_that_is_not_there_is_named_with_the_reason_and_the_ways_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/vgg.tar.gz"
        with pytest.raises(DownloadError, match=rf"^{url}: 127\.0\.0\.1 cannot be reached \(Connection "
                                               r"refused\); check the network .* `url`, .* `archive`$"):
            fetch(url, tmp_path / "vgg.tar.gz")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/vgg.tar.gz", "http://"])
def test_an_address_that_is_none_is_refused(url, tmp_path):
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(url, tmp_path / "vgg.tar.gz")


def test_a_file_of_another_size_than_it_should_have_is_refused_at_once(body, file_server, tmp_path):
    server = file_server(body)
    with pytest.raises(DownloadError, match=rf"not the file it should be: .* of {len(body):,} bytes that begins with"):
        fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz", size=len(body) + 1)
    assert left_in(tmp_path) == []


def test_a_whole_part_that_never_got_its_name_is_not_downloaded_again(body, file_server, tmp_path):
    server = file_server(body)
    (tmp_path / "vgg.tar.gz.part").write_bytes(body)
    (tmp_path / "vgg.tar.gz.part.version").write_text('"first"')
    fetch(server.url("vgg.tar.gz"), tmp_path / "vgg.tar.gz", size=len(body))
    assert (tmp_path / "vgg.tar.gz").read_bytes() == body
    assert (server.requests, left_in(tmp_path)) == ([], ["vgg.tar.gz"])
