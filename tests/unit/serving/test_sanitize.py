"""Names from outside can name nothing but themselves, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.security.sanitize import (
    LONGEST_NAME,
    check_model_name,
    host_of,
    is_safe_name,
    printable,
    without_paths,
)
from voc_cls.errors import UsageError

ODD = ("", ".", "..", ".hidden", "-rf", "a/b", "../etc/passwd", "a\\b", "a b", "a\n", "\na", "a\x00", "a:predict",
       "a%2fb", "ä", "а", "٣", "²", "a\u202e", "x" * 101)


@pytest.mark.parametrize("name", ["voc", "7", "_", "VOC_2007-v1.3", "a..b", "x" * 100])
def test_plain_names_are_models_names(name: str) -> None:
    assert is_safe_name(name)
    check_model_name(name, "--model-name")


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_none(name: str) -> None:
    assert not is_safe_name(name)
    with pytest.raises(UsageError, match=r"^--model-name .* cannot be a model's name: use letters, digits"):
        check_model_name(name, "--model-name")


@pytest.mark.parametrize(("name", "written"), [
    ("photo-app", "photo-app"),
    ("10.0.0.7", "10.0.0.7"),
    ("Photo App", "Photo%20App"),
    ("x\nERROR all is lost", "x%0AERROR%20all%20is%20lost"),
    ('a" status="OK', "a%22%20status%3D%22OK"),
    ("\x1b[31m", "%1B%5B31m"),
    ("Müller", "M%C3%BCller"),
    (b"\xff\x00", "%FF%00"),
    ("\udcff", "%ED%B3%BF"),
    ("a%20b", "a%2520b"),
])
def test_other_names_are_written_without_what_could_break_a_log_line(name: str | bytes, written: str) -> None:
    assert printable(name) == written


def test_long_names_are_cut_and_still_told_apart() -> None:
    names = [printable("x" * length) for length in (100, 101, 102, 10**6)] + [printable("ü" * 100), printable("ü" * 99)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) == LONGEST_NAME
    assert names[0] == "x" * 100
    assert printable(names[1]) != names[1]  # nobody can be called as a long name is written


@pytest.mark.parametrize(("peer", "host"), [
    ("ipv4:1.2.3.4:5", "1.2.3.4"),
    ("ipv6:%5B::1%5D:5", "::1"),
    ("ipv6:[2001:db8::7]:50123", "2001:db8::7"),
    ("ipv6:%5B::ffff:1.2.3.4%5D:5", "1.2.3.4"),
    ("unix:", "unix"),
    ("unix:/tmp/socket", "unix"),
    ("unix-abstract:name", "unix"),
    ("1.2.3.4", "1.2.3.4"),
    ("::1", "::1"),
    ("::ffff:1.2.3.4", "1.2.3.4"),
    ("2001:DB8:0:0::7", "2001:db8::7"),
    ("", "unknown"),
    ("a\nb", "a%0Ab"),
])
def test_a_host_has_one_name_on_both_ports(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_a_name_that_passed_stays_inside_its_folder(tmp_path: Path) -> None:
    for name in (*ODD, "voc", "a..b", "_"):
        if is_safe_name(name):
            assert (tmp_path / name).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize(("message", "expected"), [
    ("/srv/voc/7 cannot be loaded (Data loss: /srv/voc/7/variables/variables.index)",
     "version 7 cannot be loaded (Data loss: variables/variables.index)"),
    ("/srv/voc/7/assets/voc_cls.json has no number", "assets/voc_cls.json has no number"),
    ("cannot open '/usr/lib/x86/libcuda.so.1': no such file", "cannot open 'libcuda.so.1': no such file"),
    ("RuntimeError: a/b and 3/4 and http://host/path/x, /", "RuntimeError: a/b and 3/4 and http://host/path/x, /"),
])
def test_callers_learn_a_reason_and_no_path_of_the_server(message: str, expected: str) -> None:
    assert without_paths(message, Path("/srv/voc/7"), "version 7") == expected
