"""Text and commands inside Markdown, written so that nothing in them counts as markup."""

import re
import shlex
from collections.abc import Iterable

from lab.texts import printable

MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|\b_|_\b")


def escape_markdown(text: str) -> str:
    """Return `text` on one line, its markup escaped, for a sentence or a table."""
    return MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split())))


def inline_code(text: str) -> str:
    """Return `text` on one line as code within a sentence; the delimiters are longer than any backticks in it."""
    line = printable(" ".join(text.split("\n")))
    delimiter = "`" * (_longest_backticks(line) + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{delimiter}{padding}{line}{padding}{delimiter}"


def code_block(text: str, language: str = "") -> str:
    """Return `text` as a fenced block; the fences are longer than any backticks in it."""
    fence = "`" * max(_longest_backticks(text) + 1, 3)
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def _longest_backticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def shell_command(words: Iterable[str]) -> str:
    """Return the words as one line for bash, which splits it into exactly these words."""
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escape_character, word)) + "'"


def _escape_character(character: str) -> str:
    """Return a character as bash's $'...' needs it."""
    code = ord(character)
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8, as Python represents it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return character.encode("unicode_escape").decode()  # \n, \x1b
    return f"\\U{code:08x}"
