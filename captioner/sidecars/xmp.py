"""In-place editing of XMP packets: other properties keep their bytes.

A packet is parsed only for the byte ranges of its properties, and changed by replacing bytes, which preserves comments,
unknown properties and formatting. Document type declarations are refused, so that no entity can expand (ISO 16684-1
does not use them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from xml.parsers import expat

from captioner.errors import CaptionerError
from captioner.utils.caching import memoized

DESCRIPTION = "dc:description"
IMAGE_DESCRIPTION = "tiff:ImageDescription"
ALT_TEXT = "Iptc4xmpCore:AltTextAccessibility"

OURS = "urn:captioner:xmp:1.0/"
"""The namespace of this program's provenance mark."""

LARGEST = 2**24
"""Maximum size of a packet."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XML = "http://www.w3.org/XML/1998/namespace"
_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{_RDF}">\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_TAG = re.compile(rb"""<(?:"[^"]*"|'[^']*'|[^>"'])*>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)
_LAST_BLANK = re.compile(rb"\n[ \t]*\Z")
"""A line break followed only by indentation, at the end of the searched range."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Range: TypeAlias = tuple[int, int]
Edit: TypeAlias = tuple[int, int, bytes]
"""A byte range with its replacement."""


@dataclass(frozen=True)
class Mark:
    """The provenance mark.

    Attributes:
        model: The model that made the caption.
        version: The version of this program.
        confidence: The caption's confidence, if any.
        texts: The written texts, by field.
        before: The replaced texts, by field.
    """

    model: str
    version: str
    confidence: float | None
    texts: Mapping[str, str]
    before: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Property:
    """A property of a packet: the range of its element or attribute, and its text with the range of that.

    ``language`` is the range of the ``x-default`` list item, ``first`` the position for inserting one, ``items`` the
    number of languages.
    """

    name: str
    span: Range
    text: str | None = None
    text_span: Range | None = None
    language: Range | None = None
    first: int | None = None
    items: int = 0


@dataclass
class _Node:
    """An ``rdf:Description`` and its properties."""

    span: Range
    properties: list[_Property]


class Packet:
    """A parsed packet.

    Args:
        content: Its content in UTF-8; None for a new one.

    Attributes:
        texts: Texts by description field.
        mark: The provenance mark; None if there is none.

    Raises:
        CaptionerError: It is not XMP, or cannot be changed safely.
    """

    def __init__(self, content: bytes | None) -> None:
        self.content = _EMPTY if content is None else content
        self.is_new = content is None
        reader = _blank() if content is None else _Reader(content)
        self._nodes, self._about = reader.nodes, reader.about
        self._end, self._end_tag = reader.end, reader.end_tag
        self._of: dict[str, _Property] = {}
        for node in self._nodes:
            for each in node.properties:
                self._of.setdefault(each.name, each)
        fields = (DESCRIPTION, IMAGE_DESCRIPTION, ALT_TEXT)
        self.texts = {name: text for name in fields if (text := self._text(_uri(name)))}
        self.mark = self._mark()

    def with_texts(self, texts: Mapping[str, str | None], mark: Mark | None) -> bytes | None:
        """The packet with other texts.

        Args:
            texts: The new texts by field; None removes a field.
            mark: The provenance mark; None removes it.

        Returns:
            The new content; None if a packet made by this program would be empty.
        """
        edits: list[Edit] = []
        gone: set[int] = set()
        block: list[str] = []
        for name, text in texts.items():
            found = self._of.get(_uri(name))
            if text is None:
                edits += self._without(found, gone)
            elif found is None or (found.text_span is None and found.first is None):
                edits += self._without(found, gone)
                block.append(_element(name, text))
            elif found.text_span is not None:
                edits.append((*found.text_span, _escaped(text).encode()))
            else:
                assert found.first is not None
                edits.append((found.first, found.first, _item(text).encode()))
        for node in self._nodes:
            for each in node.properties:
                if each.name.startswith(OURS + " "):
                    edits.append((*each.span, b""))
                    gone.add(id(each))
        edits = self._without_empty_nodes(edits, gone)
        if mark is None and not block:
            left = sum(id(each) not in gone for node in self._nodes for each in node.properties)
            if not left and _apply(self.content, edits).strip() == _EMPTY.strip():
                return None
        else:
            edits.append(self._inserted(self._node(block, mark)))
        content = _apply(self.content, edits)
        if not self.is_new:  # which is ours throughout, with escaped text
            Packet(content)  # never write a packet that cannot be parsed
        return content

    def without_ours(self) -> bytes | None:
        """Return the packet with our texts replaced by the earlier ones, except in fields that have changed since."""
        if self.mark is None:
            return None if self.is_new else self.content
        mark = self.mark
        back = {name: mark.before.get(name) for name, text in mark.texts.items() if self.texts.get(name) == text}
        return self.with_texts(back, None)

    def _text(self, name: str) -> str | None:
        found = self._of.get(name)
        return found.text if found else None

    def _mark(self) -> Mark | None:
        model, version = self._text(f"{OURS} Model"), self._text(f"{OURS} Version")
        if model is None or version is None:
            return None
        try:
            confidence: float | None = float(self._text(f"{OURS} Confidence") or "")
        except ValueError:
            confidence = None
        texts = {name: text for name, own in _OWN.items() if (text := self._text(f"{OURS} {own}")) is not None}
        before = {name: text for name in texts if (text := self._text(f"{OURS} {_OWN[name]}Before")) is not None}
        return Mark(model, version, confidence, texts, before)

    def _without(self, found: _Property | None, gone: set[int]) -> list[Edit]:
        """Edits that remove a field: its element, or only its default language if there are others."""
        if found is None:
            return []
        if found.language is not None and found.items > 1:
            return [(*found.language, b"")]
        gone.add(id(found))
        return [(*found.span, b"")]

    def _without_empty_nodes(self, edits: list[Edit], gone: set[int]) -> list[Edit]:
        """Remove nodes without any property."""
        for node in self._nodes:
            if node.properties and all(id(each) in gone for each in node.properties):
                start, end = node.span
                edits = [edit for edit in edits if not (start <= edit[0] and edit[1] <= end)]
                blank = _LAST_BLANK.search(self.content, 0, start)
                edits.append((blank.start() if blank else start, end, b""))
        return edits

    def _inserted(self, node: str) -> Edit:
        """Edit that appends a node to the RDF, on its own line."""
        tag = self._end_tag.decode()
        if tag.endswith("/>"):
            name = tag[1:-2].split()[0]
            return self._end, self._end + len(self._end_tag), f"{tag[:-2].rstrip()}>\n  {node}\n</{name}>".encode()
        blank = _LAST_BLANK.search(self.content, 0, self._end)
        place = blank.start() if blank else self._end
        return place, place, f"\n  {node}".encode()

    def _node(self, elements: list[str], mark: Mark | None) -> str:
        """Build a node with new fields and the mark."""
        spaces = {"rdf": _RDF, "captioner": OURS} | _NAMESPACES
        prefixes = {element[1 : element.index(":")] for element in elements}
        used = ["rdf", *(["captioner"] if mark else []), *sorted(prefixes)]
        names = "".join(f' xmlns:{prefix}="{spaces[prefix]}"' for prefix in used)
        facts = {} if mark is None else _facts(mark)
        marks = "".join(f'\n   captioner:{name}="{_escaped(value)}"' for name, value in facts.items())
        body = "".join(f"\n   {element}" for element in elements)
        return f'<rdf:Description{names} rdf:about="{self._about}"{marks}>{body}\n  </rdf:Description>'


_OWN = {DESCRIPTION: "Description", IMAGE_DESCRIPTION: "ImageDescription", ALT_TEXT: "AltText"}
"""Field names in the mark."""


def _facts(mark: Mark) -> dict[str, str]:
    facts = {"Model": mark.model, "Version": mark.version}
    if mark.confidence is not None:
        facts["Confidence"] = f"{mark.confidence:.4f}"
    facts |= {_OWN[name]: text for name, text in mark.texts.items()}
    return facts | {f"{_OWN[name]}Before": text for name, text in mark.before.items()}


class _Reader:
    """Finds nodes, their properties and the position for a new node."""

    def __init__(self, content: bytes) -> None:
        if len(content) > LARGEST:
            raise CaptionerError(f"its XMP has more than {LARGEST:,} bytes")
        self._content = content
        self.nodes: list[_Node] = []
        self.about = ""
        self.end = -1
        self.end_tag = b""
        self._path: list[tuple[str, int, bool]] = []  # name, start, and whether it is an empty-element tag
        self._spaces: dict[str, list[str]] = {"xml": [_XML]}
        self._property: _Property | None = None
        self._item_start: int | None = None
        self._is_default = False
        self._text: list[str] = []
        self._text_start = 0
        parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartNamespaceDeclHandler = lambda name, uri: self._spaces.setdefault(name or "", []).append(uri or "")
        parser.EndNamespaceDeclHandler = lambda name: self._spaces[name or ""].pop()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._leave
        parser.CharacterDataHandler = self._text.append
        self._parser = parser
        try:
            content.decode("utf-8")
            parser.Parse(content.rstrip(b"\0"), True)
        except UnicodeDecodeError:
            raise CaptionerError("its XMP is not UTF-8") from None
        except expat.ExpatError as error:
            raise CaptionerError(f"its XMP is damaged: {error}") from None
        if self.end < 0:
            raise CaptionerError("its XMP is damaged: it has no rdf:RDF")

    def _refuse(self, *_: object) -> None:
        raise CaptionerError("its XMP has a document type declaration, which is not safe to read")

    def _tag(self) -> tuple[int, int]:
        start = self._parser.CurrentByteIndex
        match = _TAG.match(self._content, start)
        assert match is not None
        return start, match.end()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        start, end = self._tag()
        depth = len(self._path)
        parent = self._path[-1][0] if self._path else ""
        is_empty = self._content[end - 2 : end] == b"/>"
        self._path.append((name, start, is_empty))
        if name == f"{_RDF} RDF" and self.end < 0:
            if is_empty:
                self.end, self.end_tag = start, self._content[start:end]
        elif name == f"{_RDF} Description" and parent == f"{_RDF} RDF":
            self.nodes.append(_Node((start, end), self._attributes(start, end, attributes)))
        elif depth >= 2 and parent == f"{_RDF} Description" and self._path[-3][0] == f"{_RDF} RDF":
            self._property = _Property(name, (start, end))
            self.nodes[-1].properties.append(self._property)
            self._begin_text(end)
        elif self._property is not None and name == f"{_RDF} Alt":
            self._property.first = None if is_empty else end
        elif self._property is not None and name == f"{_RDF} li" and parent == f"{_RDF} Alt":
            self._property.items += 1
            self._is_default = attributes.get(f"{_XML} lang", "x-default").lower() == "x-default"
            self._item_start = start
            self._begin_text(end)

    def _begin_text(self, end: int) -> None:
        self._text.clear()
        self._text_start = end

    def _leave(self, name: str) -> None:
        index = self._parser.CurrentByteIndex
        _, start, is_empty = self._path.pop()
        is_tag = not is_empty  # for an empty-element tag, the index is after it
        end = self._content.index(b">", index) + 1 if is_tag else index
        found = self._property
        if name == f"{_RDF} RDF" and self.end < 0:
            self.end, self.end_tag = index, self._content[index:end]
        elif name == f"{_RDF} Description" and self.nodes and self.nodes[-1].span[0] == start:
            self.nodes[-1].span = (start, end)
        elif found is not None and name == f"{_RDF} li" and self._item_start == start:
            text = "".join(self._text)
            if self._is_default or found.text is None:
                found.text = text
            if self._is_default:
                found.language = (start, end)
                found.text_span = (self._text_start, index) if is_tag else None
            self._item_start = None
        elif found is not None and found.name == name and found.span[0] == start:
            if not found.items and found.first is None:
                found.text = "".join(self._text)
                found.text_span = (self._text_start, index) if is_tag and found.text.strip() else None
            found.span = (start, end)
            self._property = None

    def _attributes(self, start: int, end: int, attributes: dict[str, str]) -> list[_Property]:
        """Properties written as attributes of a node."""
        found = []
        for match in _ATTRIBUTE.finditer(self._content, start, end):
            prefix, _, local = match.group(1).decode().rpartition(":")
            if not prefix or prefix == "xmlns":
                continue
            name = f"{(self._spaces.get(prefix) or [''])[-1]} {local}"
            if name == f"{_RDF} about":
                self.about = match.group(2)[1:-1].decode()
            elif not name.startswith((f"{_RDF} ", f"{_XML} ")):
                span = match.span(2)
                found.append(_Property(name, match.span(), attributes.get(name), (span[0] + 1, span[1] - 1)))
        return found


@memoized()
def _blank() -> _Reader:
    """What a new packet has."""
    return _Reader(_EMPTY)


def _uri(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{_NAMESPACES[prefix]} {local}"


def _escaped(text: str) -> str:
    return _NO_XML.sub("", text).translate(_ESCAPES)


def _item(text: str) -> str:
    return f'<rdf:li xmlns:rdf="{_RDF}" xml:lang="x-default">{_escaped(text)}</rdf:li>'


def _element(name: str, text: str) -> str:
    item = f'<rdf:li xml:lang="x-default">{_escaped(text)}</rdf:li>'
    return f"<{name}><rdf:Alt>{item}</rdf:Alt></{name}>"


def _apply(content: bytes, edits: Iterable[Edit]) -> bytes:
    pieces, place = [], 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [content[place:start], new]
        place = end
    return b"".join([*pieces, content[place:]])
