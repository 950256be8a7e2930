"""Reading YAML: numbers as people write them, and one line for everything that is not a page of keys and values."""

import time

import pytest

from gcc_search.errors import SpaceError
from gcc_search.yaml_file import MAX_BYTES, one_line, read_yaml

INDENTATION = "check the indentation, colons and quotes there"


def read(tmp_path, content: str | bytes):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path)


def complaint(tmp_path, content: str | bytes) -> str:
    """What is said of a file, without its folder."""
    with pytest.raises(SpaceError) as caught:
        read(tmp_path, content)
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-6", 1e-6), ("1.0e-6", 1e-6), ("1E-6", 1e-6), ("-2e+3", -2000.0), ("+1e3", 1000.0), (".5e1", 5.0),
        ("1.e2", 100.0), ("1.5", 1.5), ("-.5", -0.5), ("10", 10), ("0", 0), ("-7", -7), ("+7", 7), ("0x1F", 31),
        ("007.5", 7.5), (".inf", float("inf")), ("-.INF", float("-inf")),
    ],
)  # fmt: skip
def test_a_number_is_read_as_a_number(tmp_path, text, number):
    found = read(tmp_path, f"key: {text}\nlist: [{text}]")
    assert found == {"key": number, "list": [number]}
    assert type(found["key"]) is type(number)


@pytest.mark.parametrize("text", ["'1e-6'", '"1e-6"', "1e-6x", "e-6", "1e", "v1e6", "1-e6", "٣"])
def test_what_is_quoted_or_no_number_stays_text(tmp_path, text):
    assert read(tmp_path, f"key: {text}") == {"key": text.strip("'\"")}


@pytest.mark.parametrize(
    "text", ["1:30", "1:30.5", "010", "-010", "00", "0b11", "1_000", "1_0.5", "0x_1", "0o17", "yes", "no", "On", "off"]
)
def test_what_yaml_1_1_alone_takes_for_a_number_or_a_truth_is_text(tmp_path, text):
    assert read(tmp_path, f"key: {text}\nlist: [{text}]") == {"key": text, "list": [text]}


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("1e-6", 1e-6)]
)
def test_what_everybody_reads_alike_is_read_so(tmp_path, text, value):
    assert read(tmp_path, f"key: {text}") == {"key": value}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfname: a") == {"name": "a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3", 'line 3: key "a" must stand once, got it again; remove one'),
        ("a: {b: 1, b: 1}", 'line 1: key "b" must stand once, got it again; remove one'),
        ("a: &x 1\nb: *x", "line 2: aliases (*name) must not be used; write the values out"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: tags (!name) must not be used; write the value alone"),
        ("a: !secret 1", "line 1: tags (!name) must not be used; write the value alone"),
        ("a: 1\n2: b", "line 2: a key must be text, got something else; put it in quotes"),
        ("? [a, b]\n: 1", "line 1: a key must be text, got something else; put it in quotes"),
        ("<<: {a: 1}", "line 1: a key must be text, got something else; put it in quotes"),
        ("[" * 100_000, "line 1: keys must not nest deeper than 32; is it a space file?"),
        ("{a: " * 1000, "line 1: keys must not nest deeper than 32; is it a space file?"),
        ("x" * (MAX_BYTES + 1), "must be at most 1 MiB, got more; is it a space file?"),
        (b"name: \xff\xfe", "must be UTF-8 text, got other bytes; is it a space file?"),
        ("", "must be keys with values, got nothing; examples are in search_spaces/"),
        ("# only a comment", "must be keys with values, got nothing; examples are in search_spaces/"),
        ("- a\n- b", "must be keys with values, got a list; examples are in search_spaces/"),
        ("just text", "must be keys with values, got a single value; examples are in search_spaces/"),
        ("a: 1\n b: 2", f"line 2: must be YAML, got: mapping values are not allowed here; {INDENTATION}"),
        (
            "a: [1, 2",
            "line 1: must be YAML, got: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'; "
            + INDENTATION,
        ),
        (
            "a: 1\n\tb: 2",
            "line 2: must be YAML, got: while scanning for the next token, found character '\\t' that cannot start "
            f"any token; {INDENTATION}",
        ),
        (
            "a: 1\n---\nb: 2",
            "line 2: must be YAML, got: expected a single document in the stream, but found another document; "
            + INDENTATION,
        ),
        ("a: '\x00'", "must be YAML, got: unacceptable character #x0000: special characters are not allowed"),
        ("a: 2020-13-45", "must be YAML, got: month must be in 1..12"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path, content, message):
    assert complaint(tmp_path, content) == f"bad.yaml: {message}"


def test_many_keys_are_not_deep_ones(tmp_path):
    assert len(read(tmp_path, "\n".join(f"key{number}: [1, {{a: 2}}]" for number in range(1000)))) == 1000


def test_a_key_with_a_line_break_is_told_on_one_line(tmp_path):
    message = complaint(tmp_path, '"a\\nb": 1\n"a\\nb": 2')
    assert message == 'bad.yaml: line 2: key "a\\nb" must stand once, got it again; remove one'


def test_a_number_of_many_digits_is_one_line(tmp_path):
    for number in ("9" * 5000, "0x" + "f" * 50_000):
        told = "bad.yaml: line 1: a whole number must have at most 40 digits; write it as 1e50"
        assert complaint(tmp_path, f"a: {number}") == told


def test_a_missing_file_says_where_examples_are(tmp_path):
    with pytest.raises(SpaceError) as caught:
        read_yaml(tmp_path / "none.yaml")
    reason = "No such file or directory; examples are in search_spaces/"
    assert str(caught.value) == f"{tmp_path}/none.yaml: must be a readable file, got: {reason}"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SpaceError) as caught:
        read_yaml(tmp_path)
    reason = "Is a directory; examples are in search_spaces/"
    assert str(caught.value) == f"{tmp_path}: must be a readable file, got: {reason}"


def test_a_megabyte_of_anything_is_refused_within_seconds(tmp_path):
    started = time.monotonic()
    for text in ("[", "{a: ", "a: &a [", "- "):
        complaint(tmp_path, text * (MAX_BYTES // len(text)))
    assert time.monotonic() - started < 10


def test_one_line_escapes_line_breaks_and_cuts_what_is_endless():
    assert one_line("a\nb\tc\x1b") == "a\\nb\\tc\\x1b"
    assert one_line("x" * 900 + "y" * 900) == "x" * 500 + " ... " + "y" * 500


def test_a_key_without_end_hides_neither_the_place_nor_the_way_out(tmp_path):
    told = complaint(tmp_path, f"{'k' * 1000}: 1\n{'k' * 1000}: 2")
    assert told.startswith('bad.yaml: line 2: key "kkk')
    assert told.endswith("must stand once, got it again; remove one")


def test_the_whole_rule_is_told_of_a_file_in_a_deep_folder(tmp_path):
    folder = tmp_path / ("f" * 250) / ("f" * 250)
    folder.mkdir(parents=True)
    told = complaint(folder, "a: 1\na: 2")
    assert told == 'bad.yaml: line 2: key "a" must stand once, got it again; remove one'
