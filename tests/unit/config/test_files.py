"""mailserver.cfg and users.cfg: all values come back, hand edits hold, mistakes are named with their line."""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.config.sections import fields_of, parse_value
from postkeep.config.server import (
    SECTIONS,
    ServerConfig,
    change_settings,
    find_setting,
    parse_server,
    settings_of,
    write_server,
)
from postkeep.config.users import UsersConfig, UsersWriter, parse_users
from postkeep.domain.account import Account, Alias, Domain, Rights
from postkeep.domain.errors import ConfigError, NotFound

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=30)
NAME = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
ADDRESS = st.builds(lambda a, b: f"{a}@{b}.test", NAME, NAME)
ACCOUNTS = st.builds(
    Account,
    name=NAME,
    domain=NAME.map(lambda name: f"{name}.test"),
    password_hash=TEXT,
    full_name=TEXT,
    description=TEXT,
    enabled=st.booleans(),
    rights=st.sampled_from(Rights),
    aliases=st.lists(NAME, max_size=3, unique=True).map(tuple),
    forwards=st.lists(ADDRESS, max_size=3).map(tuple),
    keep_copy=st.booleans(),
    quota_bytes=st.integers(0, 1 << 50),
    quota_items=st.integers(0, 1 << 30),
)
ALIASES = st.builds(
    Alias,
    pattern=st.from_regex(r"[a-z?*]{1,6}", fullmatch=True),
    domain=NAME.map(lambda name: f"{name}.test"),
    targets=st.lists(ADDRESS, min_size=1, max_size=3).map(tuple),
    description=TEXT,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(ACCOUNTS, max_size=5), st.lists(ALIASES, max_size=5))
def test_users_come_back(accounts: list[Account], aliases: list[Alias]) -> None:
    users = UsersConfig(
        {account.key: account for account in accounts},
        {(alias.pattern, alias.domain): alias for alias in aliases},
    )
    back = parse_users(UsersWriter().write(users))
    assert back.accounts == users.accounts
    assert back.aliases == users.aliases


SAMPLES = ("192.0.2.1", "2001:db8::1", "198.51.100.0/24", "mail.example.org", "smtp", "queue", "/srv/mail")


def passes(check: Callable[[str], None], text: str) -> bool:
    try:
        check(text)
    except ConfigError:
        return False
    return True


def some_value(field: object) -> st.SearchStrategy[object]:
    assert hasattr(field, "type")
    declaration = field.declaration  # type: ignore[attr-defined]
    if field.type is bool:
        return st.booleans()
    if field.type in (int, float):
        low = declaration.minimum or 0
        return st.integers(low, declaration.maximum if declaration.maximum is not None else low + 10_000)
    if field.choices:  # type: ignore[attr-defined]
        return st.sampled_from(field.choices)  # type: ignore[attr-defined]
    if declaration.check is not None:
        good = st.sampled_from([text for text in SAMPLES if passes(declaration.check, text)])
        return st.lists(good, min_size=1, max_size=3) if field.is_list else good  # type: ignore[attr-defined]
    if field.is_list:  # type: ignore[attr-defined]
        return st.lists(st.integers(1, 65_535).map(str), min_size=1, max_size=3)
    return TEXT.map(str.strip)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.data())
def test_all_settings_come_back(data: st.DataObject) -> None:
    config = ServerConfig(domains=(Domain("example.test", primary=True, aliases=("example.example",)),))
    for place, _ in data.draw(st.lists(st.sampled_from(settings_of(config)), max_size=8)):
        value = data.draw(some_value(place.field))
        config = change_settings(config, place.section, {place.field.declaration.variable: value})
    back = parse_server(write_server(config))
    for attribute in SECTIONS.values():
        assert getattr(back, attribute) == getattr(config, attribute)
    assert back.domains == config.domains


def test_every_section_is_in_the_file() -> None:
    declared = {field.name for field in dataclasses.fields(ServerConfig)} - {"domains", "extras", "rest"}
    assert declared == set(SECTIONS.values())


def test_every_variable_is_unique_documented_and_has_a_valid_default() -> None:
    config = ServerConfig()
    counted = Counter(place.field.declaration.variable for place, _ in settings_of(config))
    assert not [name for name, count in counted.items() if count > 1]
    for place, value in settings_of(config):
        declaration = place.field.declaration
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]+", declaration.variable)
        assert len(declaration.help) > 5
        assert parse_value(place.field, list(value) if isinstance(value, tuple) else value) == value


def test_a_hand_edit_holds_and_the_rest_has_defaults() -> None:
    text = '<config><table name="SMTP"><variable name="MaxRecipients">77</variable></table></config>'
    config = parse_server(text.encode())
    assert config.smtp.maximum_recipients == 77
    assert config.imap == ServerConfig().imap


def test_what_is_unknown_is_kept() -> None:
    text = """<config>
      <variable name="RosterMaximum">300</variable>
      <table name="SMTP"><variable name="Later">x</variable><list name="L"><listitem>1</listitem></list></table>
      <table name="Future"><variable name="A">b</variable></table>
      <list name="Domain"><listitem><variable name="Name">a.test</variable><variable name="Primary">1</variable>
        <variable name="Footer">bye</variable></listitem></list>
    </config>"""
    config = change_settings(parse_server(text.encode()), "SMTP", {"MaxRecipients": 50})
    written = write_server(config).decode()
    for kept in (
        '"RosterMaximum">300<',
        '"Later">x<',
        '"L">',
        '"A">b<',
        '"Footer">bye<',
        '"MaxRecipients">50<',
    ):
        assert kept in written
    assert write_server(parse_server(written.encode())).decode() == written


def test_what_is_unknown_of_a_user_is_kept() -> None:
    text = """<config><list name="User"><listitem><variable name="Name">a</variable>
      <variable name="Domain">x.test</variable><variable name="Photo">p</variable></listitem></list>
      <list name="Group"><listitem>g</listitem></list></config>"""
    written = UsersWriter().write(parse_users(text.encode())).decode()
    assert '"Photo">p<' in written
    assert '<list name="Group">' in written


@pytest.mark.parametrize(
    ("table", "line", "reason"),
    [
        ('<table name="SMTP">\n<variable name="MaxRecipients">many</variable></table>', 3, "takes a number"),
        ('<table name="SMTP">\n<variable name="MaxRecipients">0</variable></table>', 3, "at least 1"),
        (
            '<table name="SMTP">\n<variable name="OwnAddressesOnly">maybe</variable></table>',
            3,
            "takes 1 or 0",
        ),
        ('<table name="SMTP">\n<variable name="BareNewlines">eat</variable></table>', 3, "refuse, repair"),
        ('<table name="Services">\n<variable name="SmtpListeners">99999</variable></table>', 2, "99999"),
        (
            '\n\n<list name="Domain"><listitem><variable name="Name">no domain</variable></listitem></list>',
            4,
            "not a",
        ),
        (
            '<list name="Domain"><listitem><variable name="Name">a.test</variable></listitem></list>',
            2,
            "Primary",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_line(table: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^mailserver\.cfg, line {line}: .*{reason}"):
        parse_server(f"<config>\n{table}</config>".encode())


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ('<variable name="Name">a b</variable><variable name="Domain">x.test</variable>', "user name"),
        ('<variable name="Name">a</variable>', "not a domain"),
        ('<variable name="Name">a</variable><variable name="Domain">x.test</variable><variable name="Rights">all</variable>', "Rights takes"),
        ('<variable name="Name">a</variable><variable name="Domain">x.test</variable><variable name="Enabled">2</variable>', "Enabled takes"),
        ('<variable name="Name">a</variable><variable name="Domain">x.test</variable><variable name="QuotaBytes">-1</variable>', "QuotaBytes"),
        ("just text", "variables are expected"),
    ],
)  # fmt: skip
def test_a_wrong_user_is_refused_with_their_line(item: str, reason: str) -> None:
    text = f'<config>\n<list name="User">\n<listitem>{item}</listitem></list></config>'
    with pytest.raises(ConfigError, match=rf"^users\.cfg, line 3: .*{reason}"):
        parse_users(text.encode())


def test_two_users_of_one_name_are_refused() -> None:
    one = (
        '<listitem><variable name="Name">{}</variable><variable name="Domain">x.test</variable></listitem>\n'
    )
    text = f'<config>\n<list name="User">\n{one.format("a")}{one.format("A")}</list></config>'
    with pytest.raises(ConfigError, match=r"line 4: a second user"):
        parse_users(text.encode())


def test_settings_are_found_by_name_in_any_case() -> None:
    assert find_setting("maxrecipients").section == "SMTP"
    assert find_setting("SMTP.MaxRecipients").field.attribute == "maximum_recipients"
    with pytest.raises(NotFound, match="MaxRecipients"):
        find_setting("MaxRecipient")
    with pytest.raises(NotFound):
        find_setting("IMAP.MaxRecipients")


def test_changes_are_checked() -> None:
    config = ServerConfig()
    with pytest.raises(ConfigError, match="no setting"):
        change_settings(config, "SMTP", {"Nothing": 1})
    with pytest.raises(NotFound, match="no section"):
        change_settings(config, "Nowhere", {})
    with pytest.raises(ConfigError, match="control characters"):
        change_settings(config, "General", {"InternetHostname": "a\nb"})
    with pytest.raises(ConfigError, match="takes one value"):
        change_settings(config, "General", {"InternetHostname": ["a"]})
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        change_settings(config, "Services", {"SmtpListeners": "25,here"})


def test_five_thousand_accounts_are_written_quickly() -> None:
    users = UsersConfig(
        {f"u{n}@x.test": Account(f"u{n}", "x.test", "$argon2id$…", full_name=f"U {n}") for n in range(5000)}
    )
    writer = UsersWriter()
    began = time.process_time()
    first = writer.write(users)
    full = time.process_time() - began
    one = {**users.accounts, "u7@x.test": Account("u7", "x.test", "new")}
    began = time.process_time()
    second = writer.write(dataclasses.replace(users, accounts=one))
    single = time.process_time() - began
    assert first != second
    assert full < 0.5  # measured: 0.04; a busy machine may take longer, a slip to O(n²) far longer
    assert single < 0.1  # measured: 0.004
    assert len(fields_of(type(ServerConfig().smtp))) > 5


def test_what_becomes_of_removed_users_mail_comes_back() -> None:
    users = UsersConfig(kept=frozenset({"a@x.test", "b@x.test"}), removed=frozenset({"c@x.test"}))
    back = parse_users(UsersWriter().write(users))
    assert (back.kept, back.removed) == (users.kept, users.removed)


def test_a_hash_that_costs_too_much_is_refused_with_its_line() -> None:
    hashed = "$argon2id$v=19$m=1048576,t=64,p=16$c2FsdHNhbHQ$" + "A" * 43
    users = UsersConfig({"a@x.test": Account("a", "x.test", hashed)})
    with pytest.raises(ConfigError, match=r"^users\.cfg, line 4: Password: this argon2 hash takes more"):
        parse_users(UsersWriter().write(users))
