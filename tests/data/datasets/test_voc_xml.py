import contextlib
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc_xml import Annotation, VOCObject
from ssd.utils.errors import UserError

WHOLE = b"""<?xml version="1.0"?>
<annotation>
  <filename>000001.jpg</filename>
  <size><width>353</width><height>500</height><depth>3</depth></size>
  <object>
    <name> dog </name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>
  </object>
  <object>
    <name>person</name>
    <bndbox><xmax>352.5</xmax><xmin>8</xmin><ymin>12</ymin><ymax>498</ymax></bndbox>
  </object>
</annotation>
"""
numbers = st.floats(-1000, 1e5).map(lambda value: round(value, 4))


def test_parse():
    assert voc_xml.parse(WHOLE, "a.xml") == Annotation(
        "000001.jpg", 353, 500, (VOCObject("dog", (48, 240, 195, 371), 0), VOCObject("person", (8, 12, 352.5, 498), 0))
    )


def test_parse_takes_what_may_be_absent():
    assert voc_xml.parse(b"<annotation/>", "a.xml") == Annotation("", 0, 0, ())


@given(
    st.lists(
        st.builds(
            VOCObject,
            name=st.text("abc <>&\"'äß", min_size=1).filter(str.strip).map(str.strip),
            box=st.tuples(numbers, numbers, numbers, numbers),
            difficult=st.integers(0, 1),
        ),
        max_size=5,
    )
)
def test_round_trip(objects):
    back = voc_xml.parse(voc_xml.write("x & y.jpg", 640, 480, objects), "a.xml")
    assert (back.filename, back.width, back.height) == ("x & y.jpg", 640, 480)
    assert [item.name for item in back.objects] == [item.name for item in objects]
    for ours, theirs in zip(back.objects, objects, strict=True):
        assert ours.box == pytest.approx(theirs.box, abs=1e-4)
        assert ours.difficult == theirs.difficult


def test_whole_numbers_are_written_without_a_point():
    assert b"<xmin>5</xmin>" in voc_xml.write("a.jpg", 10, 10, [VOCObject("a", (5.0, 6.5, 100.0, 9.0), 0)])
    assert b"<xmax>100</xmax>" in voc_xml.write("a.jpg", 10, 10, [VOCObject("a", (5.0, 6.5, 100.0, 9.0), 0)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"</annotation>", b"", "a.xml: not XML"),
        (b"annotation>", b"data>", "the first element is <data>, it must be <annotation>"),
        (b"<name> dog </name>", b"", "a.xml: object 1 has no <name>"),
        (b"<name>person</name>", b"<name> </name>", "a.xml: object 2 has no <name>"),
        (b"<ymin>12</ymin>", b"", r"a.xml: object 2 \(person\) has no <ymin>"),
        (b"352.5", b"wide", r"a.xml: object 2 \(person\): <xmax> is 'wide', it must be a number of pixels"),
        (b"352.5", b"nan", "<xmax> is 'nan'"),
        (b"352.5", b"inf", "<xmax> is 'inf'"),
        (b"352.5", b"1e30", "<xmax> is '1e30'"),
        (b"352.5", b"", "<xmax> is ''"),
        (b">353<", b">broad<", "a.xml: <width> is 'broad'"),
        (b"<difficult>0<", b"<difficult>maybe<", r"object 1 \(dog\): <difficult> is 'maybe', it must be 0 or 1"),
        (b"<difficult>0<", b"<difficult>nan<", "<difficult> is 'nan'"),
    ],
)
def test_bad_files_are_told_in_one_line(old, new, message):
    assert old in WHOLE
    with pytest.raises(UserError, match=message) as error:
        whole(WHOLE.replace(old, new))
    assert "\n" not in str(error.value)


def whole(data: bytes) -> Annotation:
    """The annotation, or the error of the first object that is none."""
    annotation = voc_xml.parse(data, "a.xml")
    for _, error in annotation.broken:
        raise error
    return annotation


def test_an_object_that_is_none_leaves_the_others_with_their_numbers():
    annotation = voc_xml.parse(WHOLE.replace(b"<name> dog </name>", b""), "a.xml")
    assert [(number, item.name) for number, item in annotation.numbered()] == [(2, "person")]
    assert [(number, str(error)) for number, error in annotation.broken] == [(1, "a.xml: object 1 has no <name>")]


def test_an_object_needs_a_box():
    with pytest.raises(UserError, match=r"a.xml: object 1 \(cat\) has no <bndbox>"):
        whole(b"<annotation><object><name>cat</name></object></annotation>")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xd8",
        b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><annotation><filename>&x;</filename></annotation>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
    ],
    ids=["empty", "binary", "encoding", "entity", "external entity"],
)
def test_hostile_files(data):
    with pytest.raises(UserError, match="a.xml: not"):
        voc_xml.parse(data, "a.xml")


@pytest.mark.parametrize("word", ["1", " 1 ", "1.0", "2", "true", "True", "YES", "t", "y"])
def test_flags_that_are_set(word):
    assert objects_with(f"<difficult>{word}</difficult>") == 1


@pytest.mark.parametrize("word", ["0", "", " ", "false", "No", "Unspecified", "unknown", "None", "0.0"])
def test_flags_that_are_not_set(word):
    assert objects_with(f"<difficult>{word}</difficult><truncated>{word}</truncated>") == 0


def objects_with(flag: str) -> int:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{flag}{box}</object></annotation>"
    return whole(text.encode()).objects[0].difficult


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (BOX + BOX, r"object 1 \(cat\) has 2 <bndbox>, each needs an <object>"),
        ("<polygon><x1>1</x1></polygon>", "has no <bndbox> but a <polygon>, which is not read"),
        ("<robndbox><cx>1</cx></robndbox>", "has no <bndbox> but a <robndbox>, which is not read"),
        (f"<part><name>head</name>{BOX}</part>", r"has no <bndbox>$"),
    ],
)
def test_objects_with_another_shape_than_one_box(inside, message):
    with pytest.raises(UserError, match=message):
        whole(f"<annotation><object><name>cat</name>{inside}</object></annotation>".encode())


def test_a_polygon_beside_the_box_does_no_harm():
    text = f"<annotation><object><name>cat</name>{BOX}<polygon><x1>1</x1></polygon></object></annotation>"
    assert whole(text.encode()).objects[0].box == (1, 2, 3, 4)


def test_namespaces_and_capitals():
    text = WHOLE.replace(b"<annotation>", b'<annotation xmlns="http://example.org/voc">')
    assert voc_xml.parse(text, "a.xml") == voc_xml.parse(WHOLE, "a.xml")
    loud = re.sub(rb"<(/?)(\w+)>", lambda tag: b"<" + tag[1] + tag[2].upper() + b">", WHOLE)
    assert voc_xml.parse(loud, "a.xml") == voc_xml.parse(WHOLE, "a.xml")


def in_encoding(declared: str | None, name: str, written: str) -> bytes:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    return f"{head}<annotation><object><name>{name}</name>{BOX}</object></annotation>".encode(written)


@pytest.mark.parametrize(
    ("declared", "name", "written"),
    [
        ("gb2312", "圆", "gb2312"),
        ("GB2312", "镕", "gbk"),  # not in GB 2312, and written under its name all the same
        ("gbk", "圆", "gbk"),
        ("gb18030", "圆", "gb18030"),
        ("big5", "圓", "big5"),
        ("Shift_JIS", "円", "shift_jis"),
        ("euc-jp", "円", "euc_jp"),
        ("EUC-KR", "원", "euc_kr"),
        ("windows-1252", "Maß€", "cp1252"),
        ("cp1251", "круг", "cp1251"),
        ("ISO-8859-1", "Maß", "latin-1"),
        ("utf-8", "圆", "utf-8-sig"),
        (None, "圆", "utf-8-sig"),
        (None, "圆", "utf-16"),  # with a byte order mark
        ("utf-16", "圆", "utf-16"),
        ("utf-16", "圆", "utf-16-be"),
        ("utf-8", "圆", "utf-16"),  # the mark is right
    ],
)
def test_encodings(declared, name, written):
    (item,) = whole(in_encoding(declared, name, written)).objects
    assert item.name == name


@pytest.mark.parametrize(
    ("declared", "written", "message"),
    [
        ("utf-8", "gbk", r"not XML in utf-8, as its first line says \(byte \d+ does not fit\); save it as UTF-8"),
        (None, "gbk", r"a.xml: not XML in utf-8, as is expected \(byte \d+ does not fit\)"),
        ("ascii", "utf-8", "a.xml: not XML in ascii, as its first line says"),
        ("utf-16", "utf-8", 'a.xml: not XML in utf-16, as its first line says; write encoding="utf-8" there'),
        ("klingon", "utf-8", "a.xml: not readable XML: Python knows no encoding 'klingon'; save it as UTF-8"),
        ("hex", "utf-8", "a.xml: not readable XML: Python knows no encoding 'hex'"),
        ("undefined", "utf-8", "a.xml: not XML in undefined"),
    ],
)
def test_encodings_that_do_not_fit(declared, written, message):
    with pytest.raises(UserError, match=message) as error:
        whole(in_encoding(declared, "圆形", written))
    assert "\n" not in str(error.value)


@given(st.sampled_from(["utf-8", "utf-16", "gb18030", "cp1252", "shift_jis"]), st.binary(max_size=60))
def test_any_bytes_under_any_declaration_end_in_one_line(encoding, data):
    with contextlib.suppress(UserError):
        voc_xml.parse(f'<?xml version="1.0" encoding="{encoding}"?><annotation>'.encode() + data, "a.xml")


def test_size_limit():
    with pytest.raises(UserError, match="a.xml: 10000001 bytes are too many"):
        voc_xml.parse(b" " * (voc_xml.MAX_BYTES + 1), "a.xml")


def test_deep_nesting_is_harmless():
    depth = 100_000
    data = b"<annotation>" + b"<a>" * depth + b"</a>" * depth + b"</annotation>"
    assert voc_xml.parse(data, "a.xml").objects == ()


def test_mutated_files_parse_or_raise_a_user_error():
    source = random.Random(0)
    parsed = 0
    for _ in range(600):
        data = bytearray(WHOLE)
        for _ in range(source.randint(1, 4)):
            start = source.randrange(len(data))
            action = source.randrange(3)
            if action == 0:
                data[start] = source.randrange(256)
            elif action == 1:
                del data[start : start + source.randint(1, 30)]
            else:
                data[start:start] = bytes(data[(other := source.randrange(len(data))) : other + source.randint(1, 30)])
        with contextlib.suppress(UserError):
            voc_xml.parse(bytes(data), "a.xml")
            parsed += 1
    assert 0 < parsed < 600
