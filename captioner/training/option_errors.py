"""One-line messages for invalid training options; jsonargparse's own list every type that it tried."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightning.pytorch import callbacks, loggers, profilers, strategies

from captioner.training.allowed_imports import OPTION, refused_import
from captioner.utils.nearest import did_you_mean

HELP = "; captioner train --help lists the options"

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":')
_UNKNOWN_OPTION = re.compile(r"[Uu]nrecognized arguments: (?:.*? )?(?P<name>--?[a-zA-Z][\w.-]*)")
_NO_VALUE = re.compile(r"argument (?:-\w/)?(?P<name>--[\w.]+): expected one argument")
_STRAY = re.compile(r"[Uu]nrecognized arguments: (?P<word>[^-\s]\S*)")
_UNKNOWN_FIELD = re.compile(
    r"Group '(?P<group>[\w.]+)' does not accept option '(?P<within>[\w.]+)'|Option '(?P<name>[\w.]+)' is not accepted"
)
_LITERAL = re.compile(r"Expected a typing\.Literal\[(?P<choices>[^\]]*)\]\. Got value: (?P<value>.*)")
_LITERALS = re.compile(r"- Expected a typing\.Literal\[([^\]]*)\]")
_PLAIN = re.compile(r"Expected a (?:<class ')?(?P<type>[\w.\[\], ]+?)(?:'>)?\. Got value: (?P<value>.*)")
_REQUIRED = re.compile(r"(?P<owner>\w+): the following arguments are required: (?P<names>[\w, ]+)")
_TYPES = re.compile(r"Subtypes: \[(?P<types>.*)\]")
_GIVEN = re.compile(r"Given value: (?P<value>.*)")
_BULLET = re.compile(r"^ *- (?P<text>.*(?:\n {6,}(?!- ).*)*)", re.MULTILINE)
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\w+)")
_CLASS = re.compile(r"class_path='(?:\w+\.)*(?P<name>\w+)'")
_PROBLEM = re.compile(r"^Problem with given class_path '(?:\w+\.)*(?=\w+')|(?<=\w)'(?=: )")
_SAYS_NOTHING = ("Does not validate against", "Not a valid subclass", "a ")
_CLASSES = tuple(name for part in (callbacks, loggers, profilers, strategies) for name in part.__all__)
_SUPPORTED = {"trainer.precision": ("32-true", "bf16-mixed", "16-mixed")}
"""Values of Lightning's options that runs support, where it has others."""
_NAMES = {
    "NoneType": "null",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list[str]": "a list such as [a,b]",
}


def explain(message: str, options: Iterable[str]) -> str:
    """Shorten an error of the parser to one line.

    Args:
        message: The parser's message of many lines.
        options: All options, such as ``--data.captions``.
    """
    message = message.replace(HELP, "").replace("train: ", "")
    found = _KEY.search(message)
    key = found["key"] if found else ""
    if path := refused_import(message):
        place = f"{key}: " if key else ""
        return (
            f"{place}{path} is not imported, since it is not of captioner, Lightning's parts or torch's; if you trust "
            f"that package, add {OPTION} {path.split('.')[0]} to the command line"
        )
    options = [option for option in options if option.startswith("--") and not option.endswith("+")]
    if unknown := _UNKNOWN_OPTION.search(message):
        return f"there is no option {unknown['name']}{did_you_mean(unknown['name'], options) or HELP}"
    if empty := _NO_VALUE.search(message):
        return f"{empty['name']} needs a value, those of yes and no too, as in --overwrite true"
    if stray := _STRAY.search(message):
        return (
            f"{stray['word']} belongs to no option; a configuration is given as --config FILE, and several values as "
            "one list, such as --data.captions '[a.csv,b.csv]'"
        )
    if unknown := _UNKNOWN_FIELD.search(message):
        name = f"{unknown['group'] or key}.{unknown['within'] or unknown['name']}".removeprefix(".")
        names = [option.removeprefix("--") for option in options]
        return f"there is no field {name}{did_you_mean(name, names) or HELP}"
    if key or _TYPES.search(message):
        return _explain_value(key, message)
    return " ".join(message.split()) + HELP


def _explain_value(key: str, message: str) -> str:
    if wrong := _LITERAL.search(message):
        choices = wrong["choices"].replace("'", "").split(", ")
        return f"{key} is {wrong['value']}; choose one of {', '.join(choices)}{did_you_mean(wrong['value'], choices)}"
    if wrong := _PLAIN.search(message):
        return f"{key} is {wrong['value']}; give {_NAMES.get(wrong['type'], wrong['type'])}"
    if unknown := _NO_CLASS.search(message):
        return f"{key}: there is no class {unknown['name']}{did_you_mean(unknown['name'], _CLASSES)}"
    types, given = _TYPES.search(message), _GIVEN.search(message)
    if types is None or given is None:
        return f"{key}: {' '.join(_KEY.sub('', message).split())}{HELP}"
    unlike = re.sub(r"^ *- Expected a .*$", "", message, flags=re.MULTILINE)
    bullets = (" ".join(bullet["text"].split()) for bullet in _BULLET.finditer(unlike))
    reasons = dict.fromkeys(_PROBLEM.sub("", bullet) for bullet in bullets)
    told = [reason for reason in reasons if not reason.startswith(_SAYS_NOTHING)]
    if told:
        owner = _CLASS.search(given["value"])
        places = [key] if key else []
        if owner and not told[0].startswith(owner["name"]):
            places.append(owner["name"])
        reason = ": ".join([*places, "; ".join(told)])
        if missing := _REQUIRED.search(reason):
            names = missing["names"].split(", ")
            return f"{key}: {missing['owner']} needs {' and '.join(names)}; set {key}.{f' and {key}.'.join(names)}"
        return reason + HELP
    if literals := _LITERALS.findall(message):
        choices = [choice for listed in literals for choice in listed.replace("'", "").split(", ")]
        choices = [choice for choice in choices if choice in _SUPPORTED.get(key, choices)]
        return f"{key} is {given['value']}; choose one of {', '.join(choices)}"
    names = [name.removeprefix("<class '").removesuffix("'>") for name in types["types"].split(", ")]
    return f"{key} is {given['value']}; give {' or '.join(_NAMES.get(name, name) for name in names)}"
