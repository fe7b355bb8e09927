"""What a rebuild makes of names: parents of mailboxes, bits of keywords."""

from postkeep.domain.mailbox import DELIMITER, INBOX
from postkeep.storage.transaction import KEYWORD_LIMIT


def with_parents(names: set[str]) -> set[str]:
    """The mailboxes and all that are above them."""
    found = set()
    for name in names:
        levels = name.split(DELIMITER)
        found |= {DELIMITER.join(levels[:depth]) for depth in range(1, len(levels) + 1)}
    return found | {INBOX}


def keyword_bits(keywords: list[str], words: dict[str, int], spelled: list[str]) -> int:
    """Bits of an account's keywords; `words` and `spelled` grow. Beyond the limit keywords are left out."""
    bits = 0
    for word in keywords:
        bit = words.get(word.lower())
        if bit is None:
            if len(spelled) >= KEYWORD_LIMIT:
                continue
            bit = words[word.lower()] = len(spelled)
            spelled.append(word)
        bits |= 1 << bit
    return bits
