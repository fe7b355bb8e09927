"""SASL exchanges without a protocol around them (RFC 4422, RFC 4616)."""

import base64

import pytest
from postkeep.protocols.sasl import (
    MECHANISMS,
    RESPONSE_LIMIT,
    Challenge,
    Credentials,
    Exchange,
    Fault,
    SaslError,
)


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def _run(mechanism: str, initial: bytes | None, lines: tuple[bytes, ...]) -> None:
    exchange = Exchange(mechanism)
    exchange.begin(initial)
    for line in lines:
        exchange.answer(line)


def fault_of(mechanism: str, *lines: bytes, initial: bytes | None = None) -> Fault:
    """How the exchange ends: it must not get as far as credentials."""
    with pytest.raises(SaslError) as caught:
        _run(mechanism, initial, lines)
    return caught.value.fault


def test_plain_with_an_initial_response() -> None:
    assert Exchange("PLAIN").begin(b64(b"\0alice\0secret")) == Credentials("alice", "secret")


def test_plain_asks_by_an_empty_challenge() -> None:
    exchange = Exchange("PLAIN")
    challenge = exchange.begin()
    assert isinstance(challenge, Challenge)
    assert challenge.line == b""
    assert exchange.answer(b64(b"boss\0alice\0s p")) == Credentials("alice", "s p", "boss")


def test_login_asks_for_name_and_password() -> None:
    exchange = Exchange("LOGIN")
    first = exchange.begin()
    assert isinstance(first, Challenge)
    assert base64.b64decode(first.line) == b"Username:"
    second = exchange.answer(b64("jörg".encode()))
    assert second == Challenge(b"Password:")
    assert exchange.answer(b64("schlüssel".encode())) == Credentials("jörg", "schlüssel")


def test_login_takes_the_name_as_initial_response() -> None:
    exchange = Exchange("LOGIN")
    assert exchange.begin(b64(b"alice")) == Challenge(b"Password:")
    assert exchange.answer(b64(b"secret")) == Credentials("alice", "secret")


def test_an_equals_sign_is_an_empty_initial_response() -> None:
    assert Exchange("LOGIN").begin(b"=") == Challenge(b"Password:")
    assert fault_of("PLAIN", initial=b"=") is Fault.MALFORMED


def test_only_as_initial_response_an_equals_sign_is_empty() -> None:
    assert fault_of("LOGIN", b"=") is Fault.NOT_BASE64


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_a_star_cancels(mechanism: str) -> None:
    assert fault_of(mechanism, b"*") is Fault.CANCELLED


def test_a_star_cancels_in_the_middle_too() -> None:
    assert fault_of("LOGIN", b64(b"alice"), b"*") is Fault.CANCELLED


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
@pytest.mark.parametrize("line", [b"!!!", b"YQ", b"YWxpY2U=\r", b"YWxp Y2U=", b"\xc3\xa9", b"YQ==YQ=="])
def test_attack_what_is_not_base64(mechanism: str, line: bytes) -> None:
    assert fault_of(mechanism, line) is Fault.NOT_BASE64
    assert fault_of(mechanism, initial=line) is Fault.NOT_BASE64


@pytest.mark.parametrize("message", [b"", b"x", b"a\0b", b"a\0b\0c\0d", b"\0\0secret"])
def test_attack_plain_of_other_parts(message: bytes) -> None:
    assert fault_of("PLAIN", b64(message)) is Fault.MALFORMED


def test_attack_nul_in_login() -> None:
    assert fault_of("LOGIN", b64(b"alice\0")) is Fault.MALFORMED
    assert fault_of("LOGIN", b64(b"alice"), b64(b"se\0cret")) is Fault.MALFORMED


@pytest.mark.parametrize("message", [b"\0\xff\0x", b"\0x\0\xed\xa0\x80", b"\xc3\0a\0b"])
def test_attack_octets_that_are_no_text(message: bytes) -> None:
    assert fault_of("PLAIN", b64(message)) is Fault.NOT_TEXT


def test_attack_a_response_without_bounds() -> None:
    longest = b64(b"\0a\0" + b"x" * (RESPONSE_LIMIT * 3 // 4 - 3))
    assert len(longest) == RESPONSE_LIMIT
    assert isinstance(Exchange("PLAIN").begin(longest), Credentials)
    assert fault_of("PLAIN", b"A" * (RESPONSE_LIMIT + 4)) is Fault.TOO_LONG
    assert fault_of("PLAIN", initial=b"A" * (RESPONSE_LIMIT + 4)) is Fault.TOO_LONG


def test_an_unknown_mechanism_is_none() -> None:
    with pytest.raises(KeyError):
        Exchange("ANONYMOUS")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials("alice", "secret"))
