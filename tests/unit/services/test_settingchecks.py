"""At start: what is misspelt or leads nowhere is told; when set: places that cannot be used are refused."""

import dataclasses
import os
from pathlib import Path

import pytest
from postkeep.config.queue import QueueSettings
from postkeep.config.server import ServerConfig, change_settings, find_setting, parse_server, write_server
from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Alias, Domain
from postkeep.domain.errors import ConfigError
from postkeep.services.configuration import State
from postkeep.services.settingchecks import check_change, doubts, make_resolver

MISSPELT = """<config>
  <variable name="MaxHops">1</variable>
  <table name="SMTP">
    <variable name="MaxHopz">30</variable>
    <list name="RelayNetwork"><listitem>192.0.2.1</listitem></list>
    <variable name="MaxHops">40</variable>
    <table name="Inner"></table>
  </table>
  <table name="Smpt"></table>
  <list name="Domain">
    <listitem><variable name="Name">a.test</variable><variable name="Primary">1</variable>
      <variable name="Descripton">x</variable></listitem>
  </list>
</config>"""


def test_unknown_variables_lists_and_tables_are_told_with_their_line() -> None:
    lines = list(doubts(State(parse_server(MISSPELT.encode()))))
    assert lines == [
        "mailserver.cfg, line 2: unknown variable “MaxHops” at the top: kept, not used",
        "mailserver.cfg, line 4: unknown variable “MaxHopz” in table SMTP: kept, not used; "
        "did you mean MaxHops?",
        "mailserver.cfg, line 5: unknown list “RelayNetwork” in table SMTP: kept, not used; "
        "did you mean RelayNetworks?",
        "mailserver.cfg, line 7: unknown table “Inner” in table SMTP: kept, not used",
        "mailserver.cfg, line 9: unknown table “Smpt” at the top: kept, not used; did you mean SMTP?",
        "mailserver.cfg, line 12: unknown variable “Descripton” of a domain: kept, not used; "
        "did you mean Description?",
    ]


def test_a_file_of_our_own_gives_no_doubt() -> None:
    config = ServerConfig(domains=(Domain("a.test", primary=True, aliases=("b.test",)),))
    alias = Alias("x", "b.test", ("y@a.test",))
    users = UsersConfig({"y@a.test": Account("y", "a.test")}, {("x", "b.test"): alias})
    assert list(doubts(State(parse_server(write_server(config)), users))) == []


def test_users_that_nothing_reaches_and_passwords_that_nobody_has() -> None:
    server = ServerConfig(domains=(Domain("a.test", primary=True),))
    accounts = [
        Account("one", "gone.test"),
        Account("two", "a.test", password_hash="plain text"),
        Account("three", "a.test", password_hash="{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
    ]
    alias = Alias("sales", "gone.test", ("one@a.test",))
    users = UsersConfig({one.key: one for one in accounts}, {("sales", "gone.test"): alias})
    lines = list(doubts(State(server, users)))
    assert len(lines) == 3
    assert "one@gone.test: there is no domain gone.test" in lines[0]
    assert "two@a.test: the password" in lines[1]
    assert "plain text" not in "".join(lines)
    assert "alias sales@gone.test" in lines[2]


def test_the_lines_are_bounded() -> None:
    accounts = [Account(f"u{number}", "gone.test") for number in range(5_000)]
    lines = list(doubts(State(ServerConfig(), UsersConfig({one.key: one for one in accounts}))))
    assert len(lines) == 21
    assert "4980 more" in lines[-1]


def setting(variable: str, value: str) -> ServerConfig:
    return change_settings(ServerConfig(), find_setting(variable).section, {variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ResolverFile", "/nope"),
        ("ResolverFile", "zone"),  # no record
        ("ResolverFile", "/dev/zero"),
        ("ResolverFile", "."),
        ("ResolverFile", "pipe"),
        ("MailStoreDirectory", "/etc/passwd"),
        ("MailStoreDirectory", "/etc/passwd/mail"),
    ],
)
def test_places_that_cannot_be_used_are_refused(tmp_path: Path, variable: str, value: str) -> None:
    (tmp_path / "zone").write_text("nonsense\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=variable):
        check_change(tmp_path, ServerConfig(), setting(variable, value))


def test_places_that_can_be_used_are_taken_and_old_ones_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text("a.test MX 10 mx.a.test\n")
    check_change(tmp_path, ServerConfig(), setting("ResolverFile", "zone"))
    check_change(tmp_path, ServerConfig(), setting("MailStoreDirectory", "elsewhere/store"))
    bad = setting("ResolverFile", "/nope")
    check_change(tmp_path, bad, dataclasses.replace(bad, domains=(Domain("a.test", primary=True),)))
    check_change(tmp_path, bad, ServerConfig())


def test_name_servers_that_are_none_are_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NameServers"):
        make_resolver(tmp_path, QueueSettings(name_servers=("x y",)))
