import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data import voc_xml
from ssd.data.voc_xml import Annotation, VOCObject
from ssd.errors import UserError

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
        (b"<difficult>0<", b"<difficult>no<", "<difficult> is 'no'"),
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
