"""Octets in any charset to text. Never raises: what cannot be decoded is shown as ISO-8859-1 or U+FFFD."""

import codecs
import functools

# Names that mail uses and Python does not know, or knows as something narrower than mail means
# (the superset that browsers use, https://encoding.spec.whatwg.org/#names-and-labels).
_ALIASES = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "windows-31j": "cp932",
    "x-windows-949": "cp949",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "windows-874": "cp874",
    "tis-620": "cp874",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
    "iso-2022-jp": "iso2022_jp_ext",
    "koi8-ru": "koi8-u",
}
_NOT_TEXT = frozenset(
    ("idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined", "mbcs", "oem")
)


@functools.lru_cache(maxsize=256)
def _codec(charset: str) -> str:
    """The Python codec to use; "" when there is none."""
    name = charset.strip().strip("\"'").lower()
    name = _ALIASES.get(name, name)
    if name.startswith("cp-"):
        name = "cp" + name[3:]
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return ""
    if not getattr(info, "_is_text_encoding", True) or info.name.replace("-", "_") in _NOT_TEXT:
        return ""
    return info.name


def decode_charset(data: bytes, charset: str) -> str:
    """Text of `data`; an unknown charset, or UTF-8 that is none, is read as guess_text does."""
    codec = _codec(charset[:64])
    if not codec or codec == "utf-8":
        return guess_text(data)
    try:
        text = data.decode(codec, "replace")
    except (UnicodeError, ValueError, LookupError):
        return guess_text(data)
    return text if _encodable(text) else text.encode("utf-8", "replace").decode("utf-8")


def guess_text(data: bytes) -> str:
    """UTF-8 when it is, else ISO-8859-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _encodable(text: str) -> bool:
    """UTF-7 can make lone surrogates, which no one else takes."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
