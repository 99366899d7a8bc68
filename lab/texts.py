"""Input texts: from arguments, a file, or standard input."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lab.errors import UserError
from lab.files import read_text


def collect_texts(arguments: Sequence[str], file: Path | None, examples: Sequence[str]) -> list[str]:
    """Return the input texts: the arguments, the lines of `file`, or `examples` if neither is given.

    The argument `-` is replaced by the lines of standard input, which is read only then. Blank lines are skipped.
    Raises OSError for a file that cannot be read, UserError for invalid UTF-8 and for empty input.
    """
    texts: list[str] = []
    for number, argument in enumerate(arguments, 1):
        if argument == "-":
            texts += _lines(_standard_input(), "standard input")
        elif not argument.strip():
            raise UserError(f"text {number} is empty; give at least one word")
        else:
            texts.append(_checked(argument, number))
    if file is not None:
        texts += _lines(read_text(file), str(file))
    return texts or list(examples)


def _checked(argument: str, number: int) -> str:
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:  # bytes that could not be decoded
        raise UserError(f"text {number} is not UTF-8 text") from None
    return argument


def _standard_input() -> str:
    if sys.stdin is None:  # closed by the parent process
        raise UserError("standard input is closed; give texts as arguments or with --file")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: not UTF-8 text (byte {error.start})") from None


def _lines(text: str, source: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise UserError(f"{source}: contains no text; expected one text per line")
    return lines


def printable(text: str) -> str:
    """Return `text` with control characters escaped, since they could control the terminal; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Return `text` as `printable` does, with line breaks escaped too."""
    return printable(text).replace("\n", "\\n")
