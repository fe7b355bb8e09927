"""Enhanced status codes for the replies that aiosmtpd words without one (RFC 2034, RFC 3463)."""

ENHANCED: dict[str, str] = {
    "220": "2.0.0",
    "221": "2.0.0",
    "235": "2.7.0",
    "250": "2.0.0",
    "252": "2.1.5",
    "421": "4.3.2",
    "454": "4.7.0",
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "504": "5.5.4",
    "530": "5.7.0",
    "535": "5.7.8",
    "538": "5.7.11",
    "550": "5.0.0",
    "552": "5.3.4",
    "553": "5.1.3",
    "554": "5.0.0",
    "555": "5.5.4",
}


def with_enhanced(status: str) -> str:
    """`status` (one line, no CRLF) with an enhanced status code after its reply code, where it has none.

    >>> with_enhanced("503 Error: need MAIL command"), with_enhanced("550 5.1.1 No such user")
    ('503 5.5.1 Error: need MAIL command', '550 5.1.1 No such user')
    """
    if status[5:6] == "." and status[4:5] in "245":
        return status
    # RFC 2034 §3: none in 3yz replies; in a multiline reply the code stands on every line (ours have none)
    enhanced = ENHANCED.get(status[:3])
    if enhanced is None or status[3:4] == "-":
        return status
    return f"{status[:3]} {enhanced}{status[3:]}"
