"""Takes secrets out of what leaves the appliance in a support bundle. Pure."""

import re

MARK = b"[removed]"

_NAMES = (
    rb"(?:pass(?:word|wd|phrase)?|secret|token|credential|api[_-]?key|private[_-]?key|community|cookie"
    rb"|authorization)"
)
_END_OF_KEY = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----")
_RULES: tuple[tuple[re.Pattern[bytes], bytes], ...] = (
    # PEM keys, whole; also one that a log cut off at its end.
    (
        re.compile(
            rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        MARK,
    ),
    # Settings of the engine: <variable name="RelayPassword">…</variable>, lists of such ones.
    (
        re.compile(
            rb'(<(variable|list)\s{1,8}name="[^"]{0,80}?(?:Password|Secret|Token|Key|Credential)[^"]{0,80}"\s?>)'
            rb".*?(</\2>|\Z)",
            re.DOTALL | re.IGNORECASE,
        ),
        rb"\1" + MARK + rb"\3",
    ),
    # OVF environment: oe:key="…password" oe:value="…".
    (
        re.compile(
            rb'(key="[^"]{0,80}?' + _NAMES + rb'[^"]{0,80}"\s{1,8}(?:oe:)?value=)"[^"]{0,4096}"?',
            re.IGNORECASE,
        ),
        rb'\1"' + MARK + rb'"',
    ),
    # Hashes of crypt(3) and argon2.
    (re.compile(rb"\$(?:y|gy|7|1|2[abxy]?|5|6|argon2(?:id|i|d))\$[./A-Za-z0-9$=,+-]{8,}"), MARK),
    (re.compile(rb"\{(?:SCRAM|SSHA?|CRYPT|PBKDF2)[^}]{0,40}\}[./A-Za-z0-9+=$,:-]{8,}", re.IGNORECASE), MARK),
    # HTTP and SMTP logins; log lines of either.
    (re.compile(rb"((?:authorization|cookie):?[ \t]{0,8}).+", re.IGNORECASE), rb"\1" + MARK),
    (
        re.compile(
            rb"(\bAUTH(?:ENTICATE)?[ \t]{1,8}"
            rb"(?:PLAIN|LOGIN|XOAUTH2|OAUTHBEARER|SCRAM[A-Z0-9-]{0,20})[ \t]{1,8})\S+",
            re.IGNORECASE,
        ),
        rb"\1" + MARK,
    ),
    (re.compile(rb"(\bLOGIN[ \t]{1,8}\S{1,320}[ \t]{1,8})\S+", re.IGNORECASE), rb"\1" + MARK),
    (re.compile(rb"((?:^|\s)PASS[ \t]{1,8})\S.*", re.MULTILINE), rb"\1" + MARK),
    # name=value, name: value, "name": "value" whatever the spelling: root_password, RelayPassword, x-api-key
    (
        re.compile(
            rb"(" + _NAMES + rb'[\w.-]{0,40}["\']?[ \t]{0,8}[=:][ \t]{0,8})'
            rb'(?:"(?:[^"\\\n]|\\.){0,512}"?|\'[^\'\n]{0,512}\'?|[^\s,;<>"\']+)',
            re.IGNORECASE,
        ),
        rb"\1" + MARK,
    ),
    # user:password@host
    (re.compile(rb"(://[^\s/:@]{1,256}:)[^\s/@]{1,256}@"), rb"\1" + MARK + rb"@"),
)
"""Every repetition that could be tried anew from many places is bounded: a log holds what strangers sent."""


def redact(data: bytes) -> bytes:
    """`data` without what looks like a secret. Rather too much goes than too little."""
    # The rest of a PEM key whose beginning was cut off with the head of a log.
    end = _END_OF_KEY.search(data)
    if end is not None and b"-----BEGIN" not in data[: end.start()]:
        data = MARK + data[end.end() :]
    for pattern, replacement in _RULES:
        data = pattern.sub(replacement, data)
    return data
