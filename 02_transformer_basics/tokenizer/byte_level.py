"""The byte level of GPT-2's tokenizer: a text is split into pre-tokens, about words, and each of them into bytes.

Bytes, because any text can be written with these 256 symbols, so there is no unknown token. Pre-tokens, because merges
across word boundaries would fill the vocabulary with "dog.", "dog!" and "dog?".

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
"""

import regex

from lab.errors import UserError

# Letters and digits that Unicode added in its versions 17 and 18. `regex` knows them; the `tokenizers` library has
# Unicode 16 and takes them for symbols. They are excluded here, so that both split any text in the same places.
NEWER_THAN_UNICODE_16 = regex.sub(
    r"[0-9A-F]+",
    lambda code: rf"\U{int(code[0], 16):08X}",
    "558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF 10940-10959 "
    "10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DE0-11DE9 11DF1 1246F 12475-1247F 12550-12686 16EA0-16EB8 "
    "16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 "
    "1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 "
    "1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-33479 3D000-3FC3F",
).replace(" ", "")
LETTER = rf"[^\P{{L}}{NEWER_THAN_UNICODE_16}]"
DIGIT = rf"[^\P{{N}}{NEWER_THAN_UNICODE_16}]"
SYMBOL = rf"(?:[^\s\p{{L}}\p{{N}}]|[{NEWER_THAN_UNICODE_16}])"
# GPT-2's pattern. The space before a word belongs to the word: " and", not "and " (so `\s+(?!\S)` leaves it).
PRE_TOKEN = regex.compile(rf"'(?:[sdmt]|ll|ve|re)| ?{LETTER}+| ?{DIGIT}+| ?{SYMBOL}+|\s+(?!\S)|\s+")


def bytes_to_unicode() -> list[str]:
    """Return a printable character for each byte, as GPT-2's files write it: `Ġ` is the space, `Ċ` the line feed.

    Printable Latin-1 characters stand for themselves; the other 68 bytes get the characters from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    characters = []
    next_free = 0x100
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(next_free))
            next_free += 1
    return characters


BYTE_TO_CHAR = bytes_to_unicode()
CHAR_TO_BYTE = {character: byte for byte, character in enumerate(BYTE_TO_CHAR)}
ALPHABET = sorted(BYTE_TO_CHAR)  # GPT-2 numbers its byte tokens in the order of these characters: "!" is 0


def pre_tokenize(text: str) -> list[str]:
    """Split `text` into pre-tokens: words with the space before them, numbers, runs of symbols, white space.

    Joined they are `text` again. Raises UserError for half a surrogate pair, which is not a character and has no bytes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        raise UserError(f"the text holds U+{half:04X}, half a surrogate pair, which is no character") from None
    return PRE_TOKEN.findall(text)
