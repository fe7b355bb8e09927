"""Text as the keys of a US keyboard, in QEMU's names (QKeyCode)."""

_PLAIN = {
    " ": "spc", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right", ";": "semicolon",
    "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot", "/": "slash",
    "\n": "ret", "\t": "tab", "\b": "backspace", "\x1b": "esc",
}  # fmt: skip
_SHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./", strict=True))


def keys(text: str) -> list[tuple[str, ...]]:
    """Each character as the keys to hold together. Raises ValueError for one that the keyboard lacks."""
    return [_chord(character) for character in text]


def _chord(character: str) -> tuple[str, ...]:
    if character in _PLAIN:
        return (_PLAIN[character],)
    if character in _SHIFTED:
        return ("shift", *_chord(_SHIFTED[character]))
    if character.isascii() and character.isalnum():
        return ("shift", character.lower()) if character.isupper() else (character,)
    raise ValueError(f"a US keyboard has no {character!r}")
