"""Parameters of MAIL and RCPT that aiosmtpd does not know: DSN (RFC 3461 §4) and AUTH= (RFC 4954 §5)."""

import re

MAIL_PARAMETERS = frozenset({"RET", "ENVID", "AUTH"})
RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})

ENVID_LIMIT = 100
"""Octets (RFC 3461 §4.4)."""
ORCPT_LIMIT = 500
"""Octets (RFC 3461 §4.2)."""

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+\Z")
# RFC 6533 §3: utf-8-addr-xtext and utf-8-addr-unitext, \x{HEX} being plain xtext characters
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,40};(?:[!-*,-<>-~\u0080-\ud7ff\ue000-\U0010ffff]|\+[0-9A-F]{2})+\Z")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


def take(text: str, known: frozenset[str]) -> tuple[dict[str, str | None], str]:
    """Split the parameters named in `known` off `text`: (name → value, None when given twice; the rest).

    Values keep their case; a name without = has the value "".
    """
    found: dict[str, str | None] = {}
    rest = []
    # Not split() or upper() of anything else than ASCII: there are blanks beyond it, and letters that become
    # an ASCII one. aiosmtpd does both to what it is given: see are_sound.
    for word in filter(None, text.replace("\t", " ").split(" ")):
        name, _, value = word.partition("=")
        name = name.upper() if name.isascii() else ""
        if name not in known:
            rest.append(word)
        elif name in found:
            found[name] = None
        else:
            found[name] = value
    return found, " ".join(rest)


def are_sound(text: str) -> bool:
    """May aiosmtpd judge these? ASCII, and each named once: of two of a name it would see the last alone."""
    names = [word.partition("=")[0] for word in text.upper().split()]
    return text.isascii() and len(set(names)) == len(names)


def check_mail(found: dict[str, str | None]) -> tuple[str, str] | None:
    """(RET, ENVID) as sent, "" where absent; None when one of them is not well-formed."""
    ret = found.get("RET", "")
    envid = found.get("ENVID", "")
    submitter = found.get("AUTH", "<>")
    if ret is None or envid is None or submitter is None:
        return None
    ret = ret.upper() if ret.isascii() else "?"
    if ret not in ("", "FULL", "HDRS") or ("RET" in found and not ret):
        return None
    if "ENVID" in found and (len(envid) > ENVID_LIMIT or not _XTEXT.match(envid)):
        return None
    # RFC 4954 §5: who sent it first; an untrusted claim, checked for form and left out
    if not _XTEXT.match(submitter):
        return None
    return ret, envid


def check_rcpt(found: dict[str, str | None]) -> tuple[str, str] | None:
    """(NOTIFY, ORCPT) – NOTIFY in upper case, ORCPT as sent – or None when not well-formed."""
    notify = found.get("NOTIFY", "")
    original = found.get("ORCPT", "")
    if notify is None or original is None:
        return None
    if "NOTIFY" in found:
        notify = notify.upper() if notify.isascii() else "?"
        wishes = notify.split(",")
        if notify != "NEVER" and (not _NOTIFY.issuperset(wishes) or len(set(wishes)) != len(wishes)):
            return None
    if "ORCPT" in found and (not _ORCPT.match(original) or len(original.encode()) > ORCPT_LIMIT):
        return None
    return notify, original
