"""DSN parameters (RFC 3461)."""

import pytest
from postkeep.protocols.smtp.parameters import (
    MAIL_PARAMETERS,
    RCPT_PARAMETERS,
    check_mail,
    check_rcpt,
    take,
)


def test_known_parameters_are_taken_with_their_case() -> None:
    found, rest = take("SIZE=10 ret=Hdrs ENVID=QQ3+2Bx BODY=7BIT", MAIL_PARAMETERS)
    assert found == {"RET": "Hdrs", "ENVID": "QQ3+2Bx"}
    assert rest == "SIZE=10 BODY=7BIT"
    assert check_mail(found) == ("HDRS", "QQ3+2Bx")


def test_absent_means_empty() -> None:
    assert check_mail({}) == ("", "")
    assert check_rcpt({}) == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "RET=SOME",
        "RET=",
        "RET",
        "RET=FULL RET=HDRS",
        "ENVID=",
        "ENVID=a=b",
        "ENVID=a+2b",
        "ENVID=a+",
        "ENVID=" + "x" * 101,
        "ENVID=ü",
        "AUTH=",
    ],
)
def test_bad_mail_parameters(text: str) -> None:
    found, rest = take(text, MAIL_PARAMETERS)
    assert rest == ""
    assert check_mail(found) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOTIFY=NEVER", ("NEVER", "")),
        ("NOTIFY=success,Delay", ("SUCCESS,DELAY", "")),
        ("ORCPT=rfc822;Bob+2Bx@Example.TEST", ("", "rfc822;Bob+2Bx@Example.TEST")),
        ("ORCPT=utf-8;ü@example.test", ("", "utf-8;ü@example.test")),
        ("AUTH=x", ("", "")),
    ],
)
def test_good_rcpt_parameters(text: str, expected: tuple[str, str]) -> None:
    assert check_rcpt(take(text, RCPT_PARAMETERS)[0]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY=",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=SOMETIMES",
        "NOTIFY=NEVER NOTIFY=NEVER",
        "ORCPT=bob@example.test",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a=b",
        "ORCPT=rfc822;" + "x" * 500,
        "ORCPT=rfc822;\udcff",
    ],
)
def test_bad_rcpt_parameters(text: str) -> None:
    assert check_rcpt(take(text, RCPT_PARAMETERS)[0]) is None
