"""Takes secrets out of what leaves the appliance in a support bundle. Pure."""

import re

MARK = b"[removed]"

_NAMES = (
    rb"(?:pass(?:word|wd|phrase)?|secret|token|credential|api[_-]?key|private[_-]?key|community|cookie"
    rb"|authorization)"
)
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
            rb'(<(variable|list)\s+name="[^"]*(?:Password|Secret|Token|Key|Credential)[^"]*"\s*>).*?(</\2>)',
            re.DOTALL | re.IGNORECASE,
        ),
        rb"\1" + MARK + rb"\3",
    ),
    # OVF environment: oe:key="…password" oe:value="…", in either order.
    (
        re.compile(rb'(key="[^"]*' + _NAMES + rb'[^"]*"\s+(?:oe:)?value=)"[^"]*"', re.IGNORECASE),
        rb'\1"' + MARK + rb'"',
    ),
    # Hashes of crypt(3) and argon2.
    (re.compile(rb"\$(?:y|gy|7|1|2[abxy]?|5|6|argon2(?:id|i|d))\$[./A-Za-z0-9$=,+-]{8,}"), MARK),
    (re.compile(rb"\{(?:SCRAM|SSHA?|CRYPT|PBKDF2)[^}]{0,40}\}[./A-Za-z0-9+=$,:-]{8,}", re.IGNORECASE), MARK),
    # HTTP and SMTP logins; log lines of either.
    (re.compile(rb"((?:authorization|cookie):?[ \t]*).*", re.IGNORECASE), rb"\1" + MARK),
    (
        re.compile(
            rb"(\bAUTH(?:ENTICATE)?[ \t]+(?:PLAIN|LOGIN|XOAUTH2|OAUTHBEARER|SCRAM[A-Z0-9-]*)[ \t]+)\S+",
            re.IGNORECASE,
        ),
        rb"\1" + MARK,
    ),
    (re.compile(rb"(\bLOGIN[ \t]+\S+[ \t]+)\S+", re.IGNORECASE), rb"\1" + MARK),
    (re.compile(rb"((?:^|\s)PASS[ \t]+)\S.*", re.MULTILINE), rb"\1" + MARK),
    # name=value, name: value, "name": "value" whatever the spelling: root_password, RelayPassword, x-api-key
    (
        re.compile(
            rb"([\w.-]*"
            + _NAMES
            + rb'[\w.-]*["\']?[ \t]*[=:][ \t]*)(?:"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\s,;<>"\']+)',
            re.IGNORECASE,
        ),
        rb"\1" + MARK,
    ),
    # user:password@host
    (re.compile(rb"(\w+://[^\s/:@]+:)[^\s/@]+@"), rb"\1" + MARK + rb"@"),
)


def redact(data: bytes) -> bytes:
    """`data` without what looks like a secret. Rather too much goes than too little."""
    for pattern, replacement in _RULES:
        data = pattern.sub(replacement, data)
    return data
