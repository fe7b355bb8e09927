"""The mail that the measurements send: pre-rendered, and about as compressible as real mail."""

import base64
import random
from collections.abc import Sequence

VARIANTS = 16
"""Different bodies a size, so that neither side can profit from one repeated text."""
LINE = 74

_TEXT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an "
    "they which one you were her all she there would their we him been has when who will more no if out so "
    "said what up its about into than them can only other new some could time these two may then do first "
    "any my now such like our over man me even most made after also did many before must through back years "
    "where much your way well down should because each just those people mr how too little state good very "
    "make world still own see men work long get here between both life being under never day same another "
    "know while last might us great old year off come since against go came right used take three invoice "
    "meeting agenda contract delivery budget proposal schedule quarter customer supplier regards attached"
)
_WORDS = _TEXT.split()


def bodies(size: int, seed: int = 1) -> list[bytes]:
    """VARIANTS bodies of about `size` octets: a text part and a base64 part, CRLF lines, no leading dot.

    zstd level 1 takes 10 KB of it to about two thirds, as it does with real mail.
    """
    chance = random.Random(seed)
    return [_body(size, chance) for _ in range(VARIANTS)]


def _body(size: int, chance: random.Random) -> bytes:
    out = [
        b'Content-Type: multipart/mixed; boundary="=_bench_boundary"\r\n\r\n',
        b"--=_bench_boundary\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    ]
    text = 0
    while text < size * 0.4:
        line = (" ".join(chance.choices(_WORDS, k=12)))[:LINE].encode() + b"\r\n"
        out.append(line)
        text += len(line)
    out.append(
        b"--=_bench_boundary\r\nContent-Type: application/octet-stream; name=data.bin\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
    )
    tail = b"--=_bench_boundary--\r\n"
    missing = size - sum(map(len, out)) - len(tail)
    if missing > 0:
        encoded = base64.b64encode(chance.randbytes(missing * 3 // 4 * 76 // 78))
        out += [encoded[at : at + 76] + b"\r\n" for at in range(0, len(encoded), 76)]
    out.append(tail)
    return b"".join(out)


def header(sender: str, recipient: str, number: str) -> bytes:
    """The top header fields, unique for each message."""
    return (
        f"From: Load Generator <{sender}>\r\n"
        f"To: <{recipient}>\r\n"
        f"Subject: Measured message {number}\r\n"
        f"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{number}@load.test>\r\n"
        "MIME-Version: 1.0\r\n"
    ).encode()


def users(count: int) -> Sequence[str]:
    """Names of the recipients' mailboxes."""
    return tuple(f"user{number:04}" for number in range(count))
