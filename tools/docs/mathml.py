"""A Markdown extension: equations, as GitHub writes them, become MathML, which browsers draw without scripts.

Inline equations stand between dollar signs, others in a fenced block ``math``.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

FENCE = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = r"(?<![\\$\w])\$(?! )([^$\n]+?)(?<![ \\])\$(?!\w)"
BEFORE_FENCED_CODE = 28
"""After Markdown has normalized blanks, which would drop the marks of what is stashed."""
BEFORE_ESCAPES = 185


class _Blocks(Preprocessor):  # type: ignore[misc]
    def run(self, lines: list[str]) -> list[str]:
        def drawn(found: re.Match[str]) -> str:
            return f"\n{self.md.htmlStash.store(convert(found[1], display='block'))}\n"

        return FENCE.sub(drawn, "\n".join(lines)).split("\n")


class _Inline(InlineProcessor):  # type: ignore[misc]
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element | str, int, int]:  # noqa: N802
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


class MathML(Extension):  # type: ignore[misc]
    """Registers both."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Adds the processors to a converter."""
        md.preprocessors.register(_Blocks(md), "mathml_blocks", BEFORE_FENCED_CODE)
        md.inlinePatterns.register(_Inline(INLINE, md), "mathml_inline", BEFORE_ESCAPES)


def makeExtension(**options: Any) -> MathML:  # noqa: ANN401, N802
    """What Markdown asks a module of an extension for."""
    return MathML(**options)
