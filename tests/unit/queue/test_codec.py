import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.queue.codec import (
    BadReply,
    DotStuffer,
    Extensions,
    Reply,
    ReplyParser,
    mail_command,
    parse_ehlo,
    rcpt_command,
)

ALL = Extensions(True, 1000, True, True, True, True, frozenset({"PLAIN"}))


def replies(*pieces: bytes) -> list[Reply]:
    parser = ReplyParser()
    return [reply for piece in pieces for reply in parser.feed(piece)]


def test_replies_of_one_and_many_lines_in_any_pieces() -> None:
    data = b"220 hi\r\n250-a\r\n250-b\r\n250 c\r\n354\r\n"
    expected = [Reply(220, ("hi",)), Reply(250, ("a", "b", "c")), Reply(354, ("",))]
    assert replies(data) == expected
    assert replies(*(data[n : n + 1] for n in range(len(data)))) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"99 x\r\n",
        b"650 x\r\n",
        b"250x\r\n",
        b"\r\n",
        b"250-a\r\n251 b\r\n",
        b"x" * 5000,
        b"\xff\xfe\r\n",
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(BadReply):
        replies(data)


def test_endless_reply_is_refused() -> None:
    with pytest.raises(BadReply):
        replies(b"250-x\r\n" * 1000)


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_bytes_give_replies_or_badreply(pieces: list[bytes]) -> None:
    try:
        for reply in replies(*pieces):
            assert 200 <= reply.code < 600
            assert reply.words.isprintable()
            assert reply.status[0] in "2345"
    except BadReply:
        pass


def test_status() -> None:
    assert Reply(550, ("5.1.1 no such user",)).status == "5.1.1"
    assert Reply(550, ("4.1.1 wrong class",)).status == "5.0.0"
    assert Reply(450, ("later",)).status == "4.0.0"
    assert Reply(450, ("4.07.001 x",)).status == "4.7.1"


def test_words_are_one_printable_line() -> None:
    assert Reply(550, ("a\x1b[1m\rb", "c" * 5000)).words.startswith("550 a [1m b c")
    assert len(Reply(550, ("c" * 5000,)).words) <= 1000


def test_ehlo() -> None:
    found = parse_ehlo(
        Reply(
            250,
            ("mx", "pipelining", "SIZE 123", "8BITMIME", "AUTH LOGIN", "AUTH=PLAIN", "starttls", "", "DSN"),
        )
    )
    assert found == Extensions(True, 123, True, False, True, True, frozenset({"LOGIN", "PLAIN"}))
    assert parse_ehlo(Reply(250, ("mx", "SIZE"))).size == 0
    assert parse_ehlo(Reply(250, ("mx", "SIZE lots"))).size == 0
    assert parse_ehlo(Reply(250, ("mx", "SIZE " + "9" * 5000))).size == 0
    assert parse_ehlo(Reply(250, ("SIZE 5",))).size is None  # the first line is the greeting


def test_commands_carry_what_the_other_side_knows() -> None:
    more = {"size": 5, "eight_bit": True, "smtputf8": True, "envid": "QQ", "ret": "hdrs"}
    assert (
        mail_command("a@b", ALL, **more)
        == b"MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ\r\n"
    )  # type: ignore[arg-type]
    assert mail_command("", Extensions(), **more) == b"MAIL FROM:<>\r\n"  # type: ignore[arg-type]
    assert (
        rcpt_command("ü@b", ALL, "never", "rfc822;x")
        == "RCPT TO:<ü@b> NOTIFY=NEVER ORCPT=rfc822;x\r\n".encode()
    )
    assert rcpt_command("a@b", Extensions(), "NEVER", "rfc822;x") == b"RCPT TO:<a@b>\r\n"


@pytest.mark.parametrize("evil", ["x\r\nRCPT TO:<y@z>", "a b", "", "NEVER,SUCCESS", "\0"])
def test_parameters_from_files_cannot_inject_commands(evil: str) -> None:
    assert rcpt_command("a@b", ALL, evil, evil) == b"RCPT TO:<a@b>\r\n"
    line = mail_command("a@b", ALL, size=1, eight_bit=False, smtputf8=False, envid=evil, ret=evil)
    assert line.count(b"\r\n") == 1
    assert b"RET" not in line


def unstuff(wire: bytes) -> bytes:
    """What a server makes of it, by the letter of RFC 5321 §4.5.2."""
    assert wire.endswith(b".\r\n")
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert end == len(lines) - 2, "the end of data stands inside the message"
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:end])


def stuff(*blocks: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(stuffer.feed(block) for block in blocks) + stuffer.finish()


@given(st.lists(st.text(alphabet="\r\n.ab", max_size=12).map(str.encode), max_size=12))
@settings(max_examples=800, derandomize=True, deadline=None)
def test_no_content_ends_the_data_or_leaves_a_bare_line_end(blocks: list[bytes]) -> None:
    wire = stuff(*blocks)
    plain = b"".join(blocks)
    whole = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if whole and not whole.endswith(b"\r\n"):
        whole += b"\r\n"
    assert unstuff(wire) == whole
    assert wire.count(b"\n") == wire.count(b"\r\n") == wire.count(b"\r")
    assert wire.count(b"\r\n.\r\n") + wire.startswith(b".\r\n") == 1


def test_clean_content_is_not_changed() -> None:
    assert stuff(b"a\r\nb\r\n", b"c\r\n") == b"a\r\nb\r\nc\r\n.\r\n"
    assert stuff(b"a\r", b"\n.\r\n") == b"a\r\n..\r\n.\r\n"
    assert stuff(b"a\r\n", b".b\r\n") == b"a\r\n..b\r\n.\r\n"
    assert stuff() == b".\r\n"
