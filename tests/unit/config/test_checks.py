"""Settings that cannot be right are refused, with variable, value and reason, and in a file with the line."""

import pytest
from postkeep.config.server import SECTIONS, ServerConfig, change_settings, find_setting, parse_server
from postkeep.domain.errors import ConfigError, InvalidName
from postkeep.domain.naming import account_name, alias_pattern


def change(variable: str, value: object) -> ServerConfig:
    return change_settings(ServerConfig(), find_setting(variable).section, {variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("InternetHostname", "", "domain name"),
        ("InternetHostname", "a b", "“a b”"),
        ("InternetHostname", "x" * 300, "domain name"),
        ("RelayNetworks", "192.0.2.0/24,300.1.1.1/8", "“300.1.1.1/8”"),
        ("RelayNetworks", "10.0.0.0/33", "network"),
        ("GuessingExempt", "everybody", "“everybody”"),
        ("AdministrationNetworks", "10.0.0.0/a", "“10.0.0.0/a”"),
        ("ListenAddress", "999.1.1.1", "“999.1.1.1”"),
        ("ListenAddress", "0.0.0.0,::", "host name"),
        ("SmtpListeners", "999.1.1.1:25", "“999.1.1.1”"),
        ("SmtpListeners", "bad host:25", "“bad host”"),
        ("RelayHost", "bad host!", "“bad host!”"),
        ("RelayHost", "[1.2.3]", "host name"),
        ("NameServers", "192.0.2.1,x y", "“x y”"),
        ("NameServers", "dns.example.com", "IP address"),
        ("DebugTopics", "smtp,nonsense", "“nonsense”"),
        ("DeliverySourceIPv4", "::1", "IPv4"),
        ("DeliverySourceIPv6", "127.0.0.1", "IPv6"),
        ("MaxMessageSize", "1" + "0" * 23, "at most"),
        ("MaxMessageSize", "9999T", "at most"),
        ("ImapIdleTime", str(1 << 41), "at most"),
        ("MaxHops", "3", "at least 10, not 3"),
        ("MailStoreDirectory", "", "value is needed"),
        ("MaxHops", "10M", "number"),  # not a size
    ],
)
def test_what_cannot_be_right_is_refused(variable: str, value: str, shown: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change(variable, value)
    assert variable in str(refused.value)
    assert shown in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("InternetHostname", "mail.bücher.example"),
        ("RelayNetworks", "192.0.2.1/24,2001:db8::/32,198.51.100.7"),
        ("ListenAddress", "::"),
        ("ListenAddress", "localhost"),
        ("ListenAddress", "fe80::1%eth0"),
        ("SmtpListeners", "25,[::1]:2525,127.0.0.1:26,localhost:27,off"),
        ("RelayHost", "relay.example.com"),
        ("RelayHost", "[192.0.2.1]"),
        ("RelayHost", "[IPv6:2001:db8::1]"),
        ("RelayHost", ""),
        ("NameServers", "192.0.2.53,2001:db8::53"),
        ("NameServers", ""),
        ("DebugTopics", "smtp,smtp-client"),
        ("DeliverySourceIPv4", "192.0.2.1"),
        ("DeliverySourceIPv6", "2001:db8::1"),
    ],
)
def test_what_can_be_right_is_taken(variable: str, value: str) -> None:
    place = find_setting(variable)
    taken = getattr(getattr(change(variable, value), SECTIONS[place.section]), place.field.attribute)
    assert taken == (tuple(filter(None, value.split(","))) if place.field.is_list else value)


def test_sizes_take_a_suffix() -> None:
    for text, octets in (("10M", 10 << 20), ("1g", 1 << 30), ("512 KiB", 512 << 10), ("1000000", 1_000_000)):
        assert change("MaxMessageSize", text).smtp.maximum_message_size == octets
    for wrong in ("M", "1.5M", "-1M", "10 M M", "10X"):
        with pytest.raises(ConfigError, match="MaxMessageSize"):
            change("MaxMessageSize", wrong)


def test_a_wrong_value_in_the_file_is_named_with_its_own_line() -> None:
    text = """<config>
      <table name="Queue">
        <variable name="RelayHost">relay.example.com</variable>
        <variable name="DeliverySourceIPv4">::1</variable>
      </table></config>"""
    with pytest.raises(
        ConfigError, match=r"mailserver\.cfg, line 4: DeliverySourceIPv4: “::1” is not an IPv4"
    ):
        parse_server(text.encode())


def test_names_are_refused_with_the_true_reason() -> None:
    with pytest.raises(InvalidName, match="80 characters, at most 64"):
        account_name("n" * 80)
    with pytest.raises(InvalidName, match="65 characters, at most 64"):
        alias_pattern("*" * 65)
    with pytest.raises(InvalidName) as refused:
        account_name("a b")
    allowed = "a-z0-9_.-+'"
    assert account_name(f"x{allowed}") == f"x{allowed}"
    assert "_ . - + '" in str(refused.value)
