"""How the appliance's resolver finds its way: postkeep-resolver, without a network."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.scripts import load

resolver = load("ansible/roles/unbound/files/postkeep_resolver.py")

DEAD = resolver.Answer(False, False)
SIGNED = resolver.Answer(True, True)
STRIPPED = resolver.Answer(True, False)


def _asking(answers: dict[str, object], asked: list[str] | None = None) -> Callable[[str], object]:
    def ask(server: str) -> object:
        if asked is not None:
            asked.append(server)
        return answers.get(server, DEAD)

    return ask


def _answer(identity: int, kinds: tuple[int, ...], flags: int = 0x8180) -> bytes:
    data = struct.pack(">HHHHHH", identity, flags, 1, len(kinds), 0, 0) + b"\0" + struct.pack(">HH", 48, 1)
    for kind in kinds:
        data += b"\0" + struct.pack(">HHIH", kind, 1, 60, 4) + b"abcd"
    return data


def test_networkd_s_words_are_read() -> None:
    network = resolver.parse_state(
        "# comment\nOPER_STATE=routable\nDNS=192.0.2.53 2001:db8::53 192.0.2.53\n"
        "DOMAINS=Corp.Example. lan\nROUTE_DOMAINS=~internal.example\n"
    )
    assert network.servers == ("192.0.2.53", "2001:db8::53")
    assert network.domains == ("corp.example", "internal.example")


@pytest.mark.parametrize(
    "word",
    ["127.0.0.1", "::1", "0.0.0.0", "fe80::1%eth0", "name.example", "-x", "1.2.3.4;reboot", "", "999.1.1.1"],
)
def test_a_server_that_is_none_is_left_out(word: str) -> None:
    """DHCP is a stranger: what it says reaches unbound-control's arguments."""
    assert resolver.parse_state(f"DNS={word}\n").servers == ()


@pytest.mark.parametrize("word", ["-i", "+i", "a..b", "*.example", "a b", "x" * 64 + ".example", ".", "~."])
def test_a_domain_that_is_none_is_left_out(word: str) -> None:
    assert all(
        "." in name and name[0] not in "-+*." for name in resolver.parse_state(f"DOMAINS={word}\n").domains
    )


def test_a_flood_of_domains_is_cut() -> None:
    many = " ".join(f"d{number}.example" for number in range(1000))
    assert len(resolver.parse_state(f"DOMAINS={many}\n").domains) == resolver.MAX_DOMAINS


def test_the_dns_itself_is_asked_where_the_network_lets_us() -> None:
    asked: list[str] = []
    network = resolver.Network(("192.0.2.53",), ("corp.example",))
    plan = resolver.plan(network, _asking({resolver.ROOTS[0]: SIGNED}, asked))
    assert plan.forward_all == ()
    assert plan.validate
    assert asked == [resolver.ROOTS[0]]
    zones = dict(plan.forward_zones)
    assert zones["corp.example"] == ("192.0.2.53",)
    assert zones["10.in-addr.arpa"] == ("192.0.2.53",)


def test_one_dead_root_server_is_no_reason_to_forward() -> None:
    plan = resolver.plan(resolver.Network(("192.0.2.53",)), _asking({resolver.ROOTS[3]: SIGNED}))
    assert plan.forward_all == ()


def test_behind_a_closed_firewall_the_network_s_servers_are_asked() -> None:
    network = resolver.Network(("192.0.2.53", "192.0.2.54"))
    plan = resolver.plan(network, _asking({"192.0.2.54": SIGNED}))
    assert plan.forward_all == ("192.0.2.54",)
    assert plan.validate


def test_a_server_that_strips_signatures_is_used_without_dnssec_and_said_so() -> None:
    plan = resolver.plan(resolver.Network(("192.0.2.53",)), _asking({"192.0.2.53": STRIPPED}))
    assert plan.forward_all == ("192.0.2.53",)
    assert not plan.validate
    assert "without DNSSEC" in plan.reason


def test_a_root_that_is_intercepted_by_a_stripping_box_does_not_count() -> None:
    answers = dict.fromkeys((*resolver.ROOTS, *resolver.ROOTS_V6), STRIPPED)
    plan = resolver.plan(resolver.Network(("192.0.2.53",)), _asking({**answers, "192.0.2.53": SIGNED}))
    assert plan.forward_all == ("192.0.2.53",)


def test_without_any_network_nothing_is_forwarded() -> None:
    plan = resolver.plan(resolver.Network(), _asking({}))
    assert plan.forward_all == ()
    assert plan.forward_zones == ()
    assert plan.validate


def test_nobody_answers_and_nothing_is_given_up() -> None:
    plan = resolver.plan(resolver.Network(("192.0.2.53",)), _asking({}))
    assert plan.forward_all == ("192.0.2.53",)
    assert plan.validate  # an attacker who cuts the lines does not switch DNSSEC off


def test_the_file_says_all_of_the_plan() -> None:
    network = resolver.Network(("192.0.2.53", "2001:db8::53"), ("corp.example",))
    text = resolver.render(resolver.plan(network, _asking({"192.0.2.53": STRIPPED})))
    assert "    val-permissive-mode: yes\n" in text
    assert '    domain-insecure: "corp.example"\n' in text
    assert (
        'forward-zone:\n    name: "corp.example"\n    forward-addr: 192.0.2.53\n    forward-addr: 2001:db8::53\n'
        in text
    )
    assert text.endswith('forward-zone:\n    name: "."\n    forward-addr: 192.0.2.53\n')
    direct = resolver.render(resolver.plan(network, _asking({resolver.ROOTS[0]: SIGNED})))
    assert "permissive" not in direct
    assert 'name: "."' not in direct


def test_unbound_is_reloaded_only_when_something_changed(tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def run(command: list[str]) -> str:
        ran.append(command)
        return ""

    path = tmp_path / "forwarding.conf"
    assert resolver.put("server:\n", run, path) == ""
    assert [command[0].rpartition("/")[2] for command in ran] == ["unbound-checkconf", "unbound-control"]
    assert resolver.put("server:\n", run, path) == ""
    assert len(ran) == 2


@pytest.mark.parametrize("before", [None, "server:\n"])
def test_a_file_that_unbound_refuses_is_taken_back(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "forwarding.conf"
    if before is not None:
        path.write_text(before)
    assert resolver.put("nonsense\n", lambda command: "syntax error", path) == "syntax error"
    assert (path.read_text() if path.exists() else None) == before


def test_the_question_asks_for_signatures() -> None:
    data = resolver.question(0x1234)
    assert data[:2] == b"\x12\x34"
    assert struct.unpack_from(">HH", data, 13) == (48, 1)
    assert struct.unpack_from(">I", data, len(data) - 6)[0] & 0x8000


def test_answers_are_judged() -> None:
    assert resolver.judge(_answer(7, (48, 46)), 7) == SIGNED
    assert resolver.judge(_answer(7, (48,)), 7) == STRIPPED
    assert resolver.judge(_answer(8, (48, 46)), 7) == DEAD  # somebody else's
    assert resolver.judge(_answer(7, (48, 46), 0x8185), 7) == DEAD  # refused
    assert resolver.judge(_answer(7, (), 0x8183), 7) == STRIPPED  # knows hosts only
    assert resolver.judge(_answer(7, (), 0x8380), 7) == SIGNED  # truncated: TCP would do
    assert resolver.judge(_answer(7, (48, 46), 0x0100), 7) == DEAD  # a question


def test_no_cut_answer_breaks_the_judge() -> None:
    whole = _answer(7, (48, 46))
    for length in range(len(whole)):
        assert not resolver.judge(whole[:length], 7).signed
    for position in range(12, len(whole)):
        for octet in (0x00, 0x3F, 0xC0, 0xFF):
            resolver.judge(whole[:position] + bytes([octet]) + whole[position + 1 :], 7)
