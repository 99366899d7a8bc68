"""The byte level of GPT-2's tokenizer: a text as pieces, about words, and each piece as bytes.

Bytes, because 256 of them write every text of the world, so that no token for the unknown is needed; pieces, because
merges that reach from one word into the next would fill the vocabulary with "dog.", "dog!" and "dog?".

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
"""

import itertools

import regex

from lab.errors import UserError

# Letters and digits that Unicode added in its versions 17 and 18. The `tokenizers` library goes by version 16 and takes
# them for symbols; `regex` knows them. Left out here, so that both cut any text at the same places.
NEWER = regex.sub(
    r"[0-9A-F]+",
    lambda number: rf"\U{int(number[0], 16):08X}",
    "558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF 10940-10959 "
    "10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DE0-11DE9 11DF1 1246F 12475-1247F 12550-12686 16EA0-16EB8 "
    "16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 "
    "1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 "
    "1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-33479 3D000-3FC3F",
).replace(" ", "")
LETTER, DIGIT, OTHER = rf"[^\P{{L}}{NEWER}]", rf"[^\P{{N}}{NEWER}]", rf"(?:[^\s\p{{L}}\p{{N}}]|[{NEWER}])"
# GPT-2's own pattern. The last space before a word belongs to the word: " and", not "and " (so `\s+(?!\S)` leaves it).
PIECE = regex.compile(rf"'(?:[sdmt]|ll|ve|re)| ?{LETTER}+| ?{DIGIT}+| ?{OTHER}+|\s+(?!\S)|\s+")


def byte_characters() -> list[str]:
    """For each byte a printable character, by which GPT-2's files write it: `Ġ` is the space, `Ċ` the end of a line.

    Printable Latin-1 stands for itself; the other 68 bytes take the characters from U+0100 on, in order.
    """
    spare = itertools.count(0x100)
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return [chr(byte if byte in itself else next(spare)) for byte in range(256)]


CHARACTERS = byte_characters()
ALPHABET = sorted(CHARACTERS)  # GPT-2 numbers its bytes in the order of these characters: "!" is 0
BYTE_OF = {character: byte for byte, character in enumerate(CHARACTERS)}


def split(text: str) -> list[str]:
    """Cut `text` into pieces: words with the space before them, numbers, runs of symbols, white space. Joined they are
    `text` again.

    Raises UserError for half a surrogate pair, which stands for no character and has no bytes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        raise UserError(f"the text holds U+{half:04X}, half a surrogate pair, which is no character") from None
    return PIECE.findall(text)
