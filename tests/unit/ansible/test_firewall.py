"""SEC-4: what the appliance's firewall lets in is the table of docs/admin/firewall.md, no more and no less."""

import re
from typing import Any

import jinja2
import pytest
import yaml

from tests.support.scripts import ROOT

ALLOWED = {22, 25, 465, 587, 993, 995, 563, 636, 443, 4040, 8443, 5222, 5223, 5269}
DENIED = {110, 143, 119, 389, 80, 8800}
ROLE = ROOT / "ansible/roles/hardening"


@pytest.fixture(scope="module")
def rules() -> str:
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    template = (ROLE / "templates/nftables.conf.j2").read_text()
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.from_string(template).render(defaults)


def _services(rules: str) -> set[int]:
    block = re.search(r"define services = \{(.*?)\}", rules, re.DOTALL)
    assert block
    return {int(number) for number in re.findall(r"^\s+(\d+)", block[1], re.MULTILINE)}


def test_exactly_the_listed_services_are_let_in(rules: str) -> None:
    assert _services(rules) == ALLOWED
    assert re.findall(r"dport (?!\$services|68|546)", rules) == []


def test_services_without_tls_are_shut(rules: str) -> None:
    assert not _services(rules) & DENIED
    for chain in ("input", "forward"):
        assert re.search(rf"hook {chain} priority filter; policy drop;", rules)


def test_own_rules_come_first_and_are_read_last(rules: str) -> None:
    assert rules.index("jump own") < rules.index("tcp dport $services accept")
    assert rules.rstrip().endswith('include "/etc/nftables.d/*.nft"')


def test_the_document_says_the_same(rules: str) -> None:
    text = (ROOT / "docs/admin/firewall.md").read_text()
    table = {
        int(found[1]): found[2]
        for found in re.finditer(r"^\| (\d+) \|.*\| (open|closed) \|", text, re.MULTILINE)
    }
    assert {port for port, state in table.items() if state == "open"} == ALLOWED
    assert {port for port, state in table.items() if state == "closed"} == DENIED
