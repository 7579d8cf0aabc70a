"""XMP packets edited in place."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import language_alternatives, their_packet

from captioner.errors import CaptionerError
from captioner.sidecars.xmp import ALT_TEXT, DESCRIPTION, IMAGE_DESCRIPTION, Mark, Packet

DC = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def marked(packet: Packet, text: str, *fields: str) -> bytes:
    before = {name: packet.texts[name] for name in fields if name in packet.texts}
    content = packet.with_texts(dict.fromkeys(fields, text), Mark("m", "1", 0.25, dict.fromkeys(fields, text), before))
    assert content is not None
    return content


@pytest.mark.parametrize(
    "content", [None, their_packet(), their_packet().replace(b"rdf:", b"r:").replace(b":rdf", b":r")]
)
def test_what_is_written_is_read_and_taken_back_byte_for_byte(content: bytes | None) -> None:
    written = marked(Packet(content), 'a "dog" & <cat>', DESCRIPTION, ALT_TEXT)
    packet = Packet(written)
    assert packet.texts == {DESCRIPTION: 'a "dog" & <cat>', ALT_TEXT: 'a "dog" & <cat>'}
    assert packet.mark == Mark("m", "1", 0.25, packet.texts)
    assert packet.without_ours() == content


@pytest.mark.parametrize("content", [None, their_packet()])
@given(text=st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_comes_back(content: bytes | None, text: str) -> None:
    kept = "".join(
        c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
    )
    packet = Packet(marked(Packet(content), text, DESCRIPTION))
    assert packet.texts.get(DESCRIPTION, "") == kept
    root = ElementTree.fromstring(packet.content.decode().strip("\ufeff"))  # what another parser reads
    [item] = root.iter(f"{DC}description")
    assert (next(item.iter(f"{RDF}li")).text or "") == kept


def test_other_bytes_stay() -> None:
    written = marked(Packet(their_packet()), "a dog", DESCRIPTION)
    before, after = their_packet().split(b"</rdf:RDF>")
    assert written.startswith(before)
    assert written.endswith(after)


def test_an_overwritten_text_is_changed_alone_and_comes_back() -> None:
    content = their_packet(language_alternatives("dc:description", x_default="mine", de="meins"))
    written = marked(Packet(content), "a dog", DESCRIPTION)
    assert b">meins<" in written
    assert b">mine<" not in written
    assert Packet(written).texts[DESCRIPTION] == "a dog"
    assert Packet(written).without_ours() == content


def test_a_text_in_another_language_alone_is_a_persons() -> None:
    packet = Packet(their_packet(language_alternatives("dc:description", de="meins")))
    assert packet.texts[DESCRIPTION] == "meins"
    written = Packet(marked(packet, "a dog", DESCRIPTION))
    assert written.texts[DESCRIPTION] == "a dog"
    assert b">meins<" in written.content


@pytest.mark.parametrize(
    "more",
    ["<dc:description>mine</dc:description>", language_alternatives("dc:description", x_default="mine")],
)
def test_plain_texts_are_read_too(more: str) -> None:
    packet = Packet(their_packet(more))
    assert packet.texts == {DESCRIPTION: "mine"}
    assert Packet(marked(packet, "a dog", DESCRIPTION)).texts == {DESCRIPTION: "a dog"}


def test_texts_written_as_attributes_are_read_too() -> None:
    content = their_packet().replace(b"xmp:Rating", b'dc:description="mine &amp; yours" xmp:Rating')
    packet = Packet(content)
    assert packet.texts == {DESCRIPTION: "mine & yours"}
    assert Packet(marked(packet, 'a "dog"', DESCRIPTION)).texts == {DESCRIPTION: 'a "dog"'}


@pytest.mark.parametrize("empty", ["<dc:description/>", "<dc:description><rdf:Alt/></dc:description>"])
def test_empty_properties_give_way(empty: str) -> None:
    written = marked(Packet(their_packet(empty)), "a dog", DESCRIPTION)
    assert Packet(written).texts == {DESCRIPTION: "a dog"}
    assert written.count(b"<dc:description") == 1


def test_an_empty_rdf_is_opened() -> None:
    content = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    assert Packet(marked(Packet(content), "a dog", IMAGE_DESCRIPTION)).texts == {IMAGE_DESCRIPTION: "a dog"}


def test_what_others_changed_since_stays() -> None:
    written = marked(Packet(their_packet()), "a dog", DESCRIPTION, ALT_TEXT)
    edited = written.replace(
        b'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">a dog',
        b'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">Rex',
    )
    left = Packet(edited).without_ours()
    assert left is not None
    assert Packet(left).texts == {DESCRIPTION: "Rex"}
    assert Packet(left).mark is None
    assert b"urn:captioner" not in left.replace(b'xmlns:captioner="urn:captioner:xmp:1.0/"', b"")


def test_a_new_node_is_about_the_same_thing() -> None:
    content = their_packet().replace(b'rdf:about=""', b'rdf:about="uuid:1"')
    assert marked(Packet(content), "a dog", DESCRIPTION).count(b'rdf:about="uuid:1"') == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + their_packet(), "document type declaration"),
        (their_packet()[:200], "is damaged"),
        (b"<x/>", "has no rdf:RDF"),
        (their_packet().decode().encode("utf-16"), "is not UTF-8"),
        (b"", "is damaged"),
        (b"<a>" * 100_000, "is damaged"),
    ],
)
def test_unsafe_and_damaged_packets_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        Packet(content)
