"""The parser: positions, escapes, characters, and common deviations from the grammar."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapter.hl7v2.escape import STANDARD, escape, unescape
from fhir_adapter.hl7v2.header import header
from fhir_adapter.hl7v2.message import Message
from kernel.errors import Category, Problem

MSH = "MSH|^~\\&|LAB|GEN|AUS|HOSPITAL|20260115||ORU^R01^ORU_R01|M1|P|2.5.1"


def message(*segments: str, charset: str = "", codec: str = "utf-8") -> Message:
    head = f"{MSH}||||||{charset}" if charset else MSH
    return Message.parse("\r".join((head, *segments)).encode(codec))


def test_positions_are_those_of_the_standard() -> None:
    read = message("PID|1||1^^^A&1.2.3&ISO^MR~2^^^B||Doe&van^Ann")
    pid = read.first("PID")
    assert pid
    assert (read.header.raw(1), read.header.raw(2), read.header.get(9, 2)) == ("|", "^~\\&", "R01")
    assert (pid.get(3), pid.get(3, 4), pid.get(3, 4, 2), pid.get(3, 5)) == ("1", "A", "1.2.3", "MR")
    assert [element.component(1) for element in pid.repetitions(3)] == ["1", "2"]
    assert pid.field(5).component(1, 2) == "van"


@given(st.text(alphabet='ab1 "^~&\\T\xa0', max_size=8), st.sampled_from(["^~\\&", "^~", "^", "^~\\"]))
def test_the_short_way_to_the_first_part_of_a_field_reads_what_the_long_way_reads(text: str, marks: str) -> None:
    segment = Message.parse(f"MSH|{marks}|LAB\rZZZ|x{text}|{text}|{text}x".encode()).segments[1]
    for number in (1, 2, 3):
        assert segment.get(number) == segment.field(number).component(1)


def test_an_absent_field_is_empty() -> None:
    pid = message("PID|1").first("PID")
    assert pid
    assert (pid.get(99), pid.get(1, 7), pid.get(1, 1, 7), pid.repetitions(50)) == ("", "", "", [])


def test_the_null_value_reads_as_empty_and_is_recognised() -> None:
    pid = message('PID|""|').first("PID")
    assert pid
    assert pid.get(1) == ""
    assert pid.is_null(1)
    assert not pid.is_null(2)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\n", "\r\n\r\n", "\r  \r"])
def test_every_way_to_end_a_segment_is_read(end: str) -> None:
    raw = end.join((MSH, "PID|1||7", "OBX|1|ST|||a", "")).encode()
    assert [segment.name for segment in Message.parse(raw).segments] == ["MSH", "PID", "OBX"]


def test_a_byte_order_mark_is_ignored() -> None:
    assert Message.parse(b"\xef\xbb\xbf" + MSH.encode()).header.get(10) == "M1"


def test_line_breaks_inside_a_text_belong_to_it() -> None:
    obx = message("OBX|1|TX|||first\rsecond line\nTHE END").first("OBX")
    assert obx
    assert obx.field(5).text == "first\nsecond line\nTHE END"


@pytest.mark.parametrize("filler", ["\n", "\r \n", "|", "\\", "\\X41", "MSH", "A", "~^&", "\n "])
def test_time_to_read_grows_with_length_alone(filler: str) -> None:
    begun = time.perf_counter()
    read = message(f"OBX|1|ST|||{filler * 400_000}x")
    [element.text for segment in read.segments for element in segment.repetitions(5)]
    assert time.perf_counter() - begun < 5


def test_other_delimiters_are_read() -> None:
    read = Message.parse(b"MSH#*!?%#LAB#GEN#A#B###ORU*R01#M1\rPID#1##7***A%1.2!8##a?S?b")
    pid = read.first("PID")
    assert pid
    assert (pid.get(3, 4, 2), len(pid.repetitions(3)), pid.get(5)) == ("1.2", 2, "a*b")


def test_a_doubled_backslash_in_msh_2_is_one_escape_character() -> None:
    assert Message.parse(MSH.replace("\\", "\\\\").encode()).delimiters.subcomponent == "&"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\E\R\ ", "\\R\\ "),
        (r"C:\dir and 5 more words", r"C:\dir and 5 more words"),
        (r"\XC3BC\ber", "über"),
        (r"\XC3\\XBC\ber", "über"),
        (r"\XFF\ ", r"\XFF\ "),
        (r"one\.br\two\.sp2\three", "one\ntwo\n\nthree"),
        (r"\H\bold\N\ ", "bold "),
        (r"\Zlocal\ stays", r"\Zlocal\ stays"),
        (r"\X4\ odd", r"\X4\ odd"),
        ("ends with \\", "ends with \\"),
    ],
)
def test_escape_sequences(sent: str, meant: str) -> None:
    assert unescape(sent, STANDARD) == meant


def test_hexadecimal_is_in_the_character_set_of_the_message() -> None:
    obx = message("OBX|1|ST|||\\XFC\\ber", charset="8859/1", codec="latin-1").first("OBX")
    assert obx
    assert obx.get(5) == "über"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_escaped_text_is_unescaped_to_the_original(text: str) -> None:
    assert unescape(escape(text), STANDARD) == text


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for prefix in (b"", b"MSH|^~\\&|", MSH.encode() + b"\r"):
        try:
            read = Message.parse(prefix + raw)
            [element.component(1) for s in read.segments for n in range(9) for element in s.repetitions(n)]
        except Problem as problem:
            assert problem.category is Category.INCORRECT  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("UNICODE UTF-8", "utf-8", "Müller Łódź 山"),
        ("8859/1", "latin-1", "Müller"),
        ("8859/2", "iso8859-2", "Łódź"),
        ("8859/15", "iso8859-15", "Œuvre €"),
        ("GB 18030-2000", "gb18030", "山田"),
        ("ISO IR87", "iso2022_jp", "山田"),
        ("", "utf-8", "Müller"),
        ("ASCII", "utf-8", "Müller"),
        ("UNICODE UTF-16", "utf-16", "Müller"),
    ],
)
def test_characters_are_read_as_declared(charset: str, codec: str, name: str) -> None:
    pid = message(f"PID|1||7||{name}", charset=charset, codec=codec).first("PID")
    assert pid
    assert pid.get(5) == name


def test_undeclared_bytes_that_are_not_utf_8_are_read_by_the_fallback_and_that_is_recorded() -> None:
    read = message("PID|1||7||Müller", codec="latin-1")
    assert (read.first("PID").get(5), read.charset, read.charset_source) == ("Müller", "iso8859-1", "fallback")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "MSH"),
        (b"PID|1", "MSH"),
        (b"MSH", "MSH-1"),
        (b"MSH|", "MSH-2"),
        (b"MSH|&&&&|A", "MSH-2"),
        (f"{MSH}||||||KLINGON".encode(), "MSH-18"),
        (f"{MSH}||||||UNICODE UTF-8\rPID|1||7||".encode() + b"M\xfcller", "MSH-18"),
        (f"{MSH}\rPID|1\r{MSH}\r".encode(), "MSH occurs"),
    ],
)
def test_an_unreadable_field_is_refused_by_its_name(raw: bytes, named: str) -> None:
    with pytest.raises(Problem, match=named) as raised:
        Message.parse(raw)
    assert raised.value.category is Category.INCORRECT


def test_the_header_is_read_from_bytes_alone() -> None:
    read = header(f"{MSH}||||||8859/1\rPID|".encode() + b"\xff\xfe")
    assert (read.event, read.control_id, read.sender, read.version) == ("ORU^R01", "M1", "LAB|GEN", "2.5.1")
    assert (read.receiving_application, read.processing_id, read.charset) == ("AUS", "P", "8859/1")


@pytest.mark.parametrize(
    ("raw", "named"),
    [(b"x", "MSH"), (b"MSH|^~\\&|A|B|C|D|2026||", "MSH-9"), (b"MSH|^~\\&|A|B|C|D|2026||ORU^R01|", "MSH-10")],
)
def test_a_header_without_type_or_control_id_is_refused(raw: bytes, named: str) -> None:
    with pytest.raises(Problem, match=named):
        header(raw)
