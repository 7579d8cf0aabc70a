"""A lexer equivalent to that of the official scores (Stanford's PTBTokenizer, in Java).

The rules were derived by querying that lexer with millions of strings. Like it, they are a list of patterns: at each
position the longest match wins, and of two the earlier pattern. Text outside a pattern's group counts for the length
of the match, but is not part of the token.
"""

from __future__ import annotations

import re

from captioner.text.unicode_classes import DIGITS, LETTERS, MARKS, SYMBOLS, character_class

# Alphabets, for use within [brackets].
_T = "A-Za-z" + character_class(LETTERS)
_D = "0-9" + character_class(DIGITS)
_L = f"(?:[{_T}{character_class(MARKS)}]|&[aeiouAEIOU](?:acute|grave|uml|ACUTE|GRAVE|UML);)"
_APOSTROPHE = "(?:['’\x92]|&apos;)"
_ANY_QUOTE = "(?:['’\x92‘\x91`]|&apos;)"

_ABBREVIATIONS = """
    adj adm adv alex assoc asst attys? ave brig capt cf cie cmdr col comdr cpl dept det drs? elec ens ft gen govs? hon
    insp invt jos lieut lt maj messrs mlle mme mrs? ms msgr mt natl pfc ph pres profs? pvt reps? rev sens? sfc sgt spc
    ste? supts? treas vs wm
"""
"""Abbreviations that keep their period."""

_FINAL_ABBREVIATIONS = """
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif colo conn corp cos? ct dak dec esq est etc ext feb fla fri
    ga inc ind intl jan jr jul jun kans? ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sept?
    seq sq sr sys tel tenn thu thurs tues? univ va vt wed wisc? wyo ph\\.d ed\\.d
"""
"""Abbreviations that keep their period and may end a sentence."""

_LOWER_ABBREVIATIONS = "mfg mtg ppte ppty ptes? ptys?"
"""Abbreviations that are not recognized in capitals."""

_CAPITAL_ABBREVIATIONS = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
"""Names of states that are also words."""

_NUMBERED_ABBREVIATIONS = "art ca figs? nos? op pp prop"
"""Abbreviations that keep their period only before a number."""

_SENTENCE_STARTERS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One
    Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You Mr\\. Ms\\.
"""
"""Words before which a single letter loses its period: they begin a new sentence, possibly that of the next caption."""

_FILE_ENDINGS = """
    bat bmp c cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3 pdf php pl png ppt ps py sql tar txt wav x xml
    zip
"""


def _words(words: str) -> str:
    return "|".join(words.split())


def _any_case(pattern: str) -> str:
    return f"(?i:{pattern})"


def _starters() -> str:
    return "|".join(f"{word[0]}(?i:{word[1:]})" for word in _SENTENCE_STARTERS.split())


_ACRONYM = r"(?:[A-Za-z]\.){2,}"
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_WORD = f"{_L}(?:{_L}|[{_D}])*(?:[.!?]{_L}(?:{_L}|[{_D}])*)*"
_PART = f"(?:[dolDOL]{_ANY_QUOTE}[{_T}{_D}])?[{_T}{_D}]+"
_SPACE = r" \t\xa0\u2000-\u200a\u3000"
_HYPHENATED = f"{_PART}(?:[-_֊‐‑]{_PART})*"
_DOTTED = rf"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:{_ACRONYM}|[A-Za-z0-9]+))+"
_COMPANY = "[A-Z]+(?:(?:&(?i:amp);|[+&])[A-Z]+)+"
_PATH = r'(?:/[^ \t\n"<>|()]+[^ \t\n"<>|.!?(){},-])?'

_QUOTES = {"‘": "`", "\x91": "`", "‹": "`", "‛": "`", "’": "'", "\x92": "'", "›": "'", "`": "`"}
_QUOTES |= {"‚": "‚", "„": "„", "‟": "‟"}
_QUOTES |= {"“": "``", "\x93": "``", "«": "``", "”": "''", "\x94": "''", "»": "''"}
_QUOTE_MARKS = "".join(_QUOTES)
"""Tokens of quotation marks; two adjacent marks are one token."""

_REWRITES = {"¢": "cents", "£": "#", "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_REWRITES |= dict.fromkeys("¤€₠\x80", "$") | dict.fromkeys("–—―\x96\x97", "--") | dict.fromkeys("…\x85", "...")
_REWRITTEN = "".join(_REWRITES)
_REWRITES |= {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", '"': "''"}
_REWRITES |= {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": ""}
_REWRITES |= {"&md;": "--", "&mdash;": "--", "&ndash;": "--", "---": "--", "----": "--", "....": "...", ".....": "..."}
"""Replacements of other tokens."""

_NAME = "[A-Za-z][A-Za-z0-9_.:-]*"
_TAG = f"""<{_NAME}(?: +{_NAME}(?:=(?:"[^"\n]*"|'[^'\n]*'))?)* */?>|</{_NAME} *>|<[!?][A-Za-z-][^>\n]*>"""
"""A tag with attributes, a closing tag, a comment."""

_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        # Web addresses and the like.
        r'(?i:https?)://[^ \t\n"<>|()]+[^ \t\n"<>|.!?(){},-]',
        rf'(?i:www)\.(?:[^ \t\n"<>|.!?(){{}},]+\.)+[A-Za-z]{{2,4}}{_PATH}',
        rf'(?:[^ \t\n"`\'<>|!?(){{}}$\x2c-\x5f]+\.)+(?:com|net|org|edu){_PATH}',
        r'<?[A-Za-z0-9][^ \xa0\t\n"<>|()]*@(?:[^ \xa0\t\n"<>|().]+\.)*[^ \xa0\t\n"<>|().]+>?',
        "@[A-Za-z_][A-Za-z0-9_]*",
        f"#{_L}+",
        # Markup.
        _TAG,
        r"&\#[0-9]+;",
        _any_case("&(?:amp|lt|gt|quot|apos|nbsp|md|mdash|ndash);"),
        "&(?:odq|cdq|HT|TL|UR|LR|QC|QL|QR);",
        # Words with an apostrophe: "n't" and "'s" are split off.
        _any_case("(can)not(?![a-z0-9])|(g(?:im(?=me)|on(?=na)|ot(?=ta))|lem(?=me)|wan(?=na))(?:me|na|ta)(?![a-z0-9])"),
        f"([A-Za-z]*[A-MO-Za-mo-z])[nN]{_ANY_QUOTE}[tT]",
        f"({_WORD}){_APOSTROPHE}{_any_case('(?:s|m|d|re|ve|ll)')}",
        f"[nN]{_ANY_QUOTE}[tT]",
        f"('{_any_case('(?:s|m|d|re|ve|ll)')})(?:[^A-Za-z]|$)",
        f"(?:[’\x92]|&apos;){_any_case('(?:s|m|d|re|ve|ll)')}",
        f"{_APOSTROPHE}{_any_case('(?:em|till?|cause)')}",
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}",
        f"{_APOSTROPHE}[2-9]0[sS]",
        r"['’][0-9][0-9](?=\s|$)",
        _any_case("('t)(?:is|was)"),
        r"'[nN](?=\s|$)",
        "(?:[’\x92]|&apos;)[nN]",
        _any_case(f"(?:dunkin|somethin|ol){_APOSTROPHE}"),
        f"[dDlLjJ]{_APOSTROPHE}",
        f"([yY]{_APOSTROPHE})[A-Za-z]",
        f"[A-HJ-XZ]{_ANY_QUOTE}[{_T}]{{2,}}",
        f"n{_ANY_QUOTE}[{_T}]{{2,}}",
        f"[{_T}]+[aeiouyAEIOUY]{_ANY_QUOTE}[aeiouA-Z][{_T}]*",
        f"[oO]{_ANY_QUOTE}[oO][{_T}]*",
        _any_case(f"[oe]'er|c'mon|s'mores|c{_APOSTROPHE}est"),
        # Words.
        _WORD,
        f"(?:{_WORD}|{_HYPHENATED}|{_COMPANY}|{_DOTTED})\\.(?=[,;:])",
        f"((?:{_any_case(_words(_FINAL_ABBREVIATIONS))}|{_words(_CAPITAL_ABBREVIATIONS)})\\.)[^\n](?s:.)",
        _DOTTED,
        f"(?:{_any_case(_words(_ABBREVIATIONS))})\\.",
        f"(?:{_any_case(_words(_FINAL_ABBREVIATIONS))})\\.",
        f"(?:{'|'.join(f'(?:{word[0]}|{word[0].upper()}){word[1:]}' for word in _LOWER_ABBREVIATIONS.split())})\\.",
        f"(?:{_words(_CAPITAL_ABBREVIATIONS)}|{_words(_CAPITAL_ABBREVIATIONS.upper())})\\.",
        rf"(?:{_any_case(_words(_NUMBERED_ABBREVIATIONS))})\.(?=[{_SPACE}\n]?[0-9])",
        _ACRONYM,
        _any_case(r"u\.s\.-u\.k\.?"),
        rf"[A-Za-z](?=\.\s+(?:{_starters()}|{_TAG})\s)|[A-Za-z]\.",
        _HYPHENATED,
        rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}",
        _COMPANY,
        r"[cC]\+\+|[cCfF]\#",
        r"[A-Z]+\$",
        # Numbers.
        f"[-+]?(?:[{_D}]+(?:[.:,٫٬][{_D}]+)*|(?:[.:,٫٬][{_D}]+)+)",
        rf"(?:{_L}|[{_D}])+(?:\.(?:{_L}|[{_D}])+)*\.{_any_case(_words(_FILE_ENDINGS))}(?=[\s.,!?]|$)",
        r"(?:[0-9]{1,4}[- \xa0])?[0-9]{1,4}(?:\\?/|⁄)[0-9]{1,4}",
        "[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}",
        r"(?:\([0-9]{2,3}\)[ \xa0]?|\+{1,2}[0-9]{2,4}[- \xa0](?:[0-9]{2,4}[- \xa0])?|[0-9]{2,4}[- \xa0])"
        r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}",
        "[¹²³⁰⁴-⁹⁺⁻ⁿ]+|[₀-₉]+",
        "-(?:[lr][rsc]b|[LR][RSC]B)-",
        # Emoticons.
        r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]](?![A-Za-z0-9])",
        r"[-^x=~<>']_[-^x=~<>']",
        r"\([-^x=~<>'][_.-]?[-^x=~<>']\)",
        # Sequences of punctuation.
        r"\.{3,5}",
        "[?!]{2,}",
        "-{2,}",
        r"\*+|_+|@+|\#+|(?:\\\*)+",
        "<<|>>|''",
        f"[{_QUOTE_MARKS}]{{1,2}}",
        f"[!-~{_REWRITTEN}{character_class(SYMBOLS)}]",
    )
]

_CLITICS = {"n't", "n`t", "'s", "'m", "'d", "'re", "'ve", "'ll"}


_ALL_ABBREVIATIONS = f"{_ABBREVIATIONS} {_FINAL_ABBREVIATIONS} {_LOWER_ABBREVIATIONS} {_CAPITAL_ABBREVIATIONS}"
_SPLIT_WORD = "cannot|g(?:imme|onna|otta)|lemme|wanna"
_SPACES = re.compile(f"[{_SPACE}]+")
_PLAIN = re.compile(
    rf"(?!(?i:(?:{_words(_ALL_ABBREVIATIONS)})\.|(?:{_SPLIT_WORD})[.,]?)$)([A-Za-z]{{2,}}(?:-[A-Za-z]+)*)[.,]?"
)
_CLOSED = re.compile(rf"(?!.*(?i:{_words(_NUMBERED_ABBREVIATIONS)})\.$)[A-Za-z,;:!?\"'-]*(?:[A-Za-z]{{2}}\.)?|\.")


def plain_word(piece: str) -> str | None:
    """Token of a plain word, possibly followed by a comma or period; None where `next_token` is needed."""
    match = _PLAIN.fullmatch(piece)
    return match[1].lower() if match else None


def is_closed(piece: str) -> bool:
    """Whether the tokens of the text between two spaces do not depend on its context."""
    return _CLOSED.fullmatch(piece) is not None


def skip_spaces(text: str, start: int) -> int:
    """Position after the whitespace, if any, that begins at a position."""
    match = _SPACES.match(text, start)
    return match.end() if match else start


def next_token(text: str, start: int) -> tuple[str, int]:
    """Read one token.

    Args:
        text: All captions of a corpus, one per line.
        start: Position of the token.

    Returns:
        The token in lower case, empty where there is none, and the position after it. A token that spans a space
        contains U+00A0 instead.
    """
    if text[start] in " \t":
        return "", skip_spaces(text, start)
    longest, token = 0, ""
    for pattern in _PATTERNS:
        match = pattern.match(text, start)
        if match and match.end() - start > longest:
            longest = match.end() - start
            token = next((group for group in match.groups() if group is not None), match[0])
    if not token:
        return "", start + 1
    return _rewrite(token.lower()), start + len(token)


def _rewrite(token: str) -> str:
    straight = re.sub("[‘\x91]", "`", re.sub("[’\x92]|&apos;", "'", token))
    if straight in _CLITICS:
        return straight
    if token in _REWRITES:
        return _REWRITES[token]
    if all(mark in _QUOTES for mark in token):
        return "".join(_QUOTES[mark] for mark in token)
    if re.fullmatch("[a-z+&;]+", token):
        return token.replace("&amp;", "&")
    if not re.fullmatch(_TAG, token):
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token.replace(" ", "\xa0")
