"""Ids of resources: a number and the suffix of a type, `38v`. As an integer they sort by number, then by suffix."""

import re

ID = re.compile(r"[1-9][0-9]{0,14}[a-z]", re.ASCII)
WHAT_AN_ID_IS = "must be a number without leading zeros, of at most 15 digits, and a letter from a to z: 38v"

_SUFFIXES = 32
_BEFORE_A = ord("a") - 1


def is_id(text: str) -> bool:
    """Whether the text is an id."""
    return ID.fullmatch(text) is not None


def pack(resource_id: str) -> int:
    """The id as a positive integer below 2^55."""
    return int(resource_id[:-1]) * _SUFFIXES + ord(resource_id[-1]) - _BEFORE_A


def unpack(packed: int) -> str:
    """The id of an integer."""
    number, suffix = divmod(packed, _SUFFIXES)
    return f"{number}{chr(suffix + _BEFORE_A)}"
