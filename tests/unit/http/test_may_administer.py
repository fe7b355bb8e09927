"""WEB-3: which peers the administration's port serves."""

import pytest
from postkeep.config.security import SecuritySettings
from postkeep.protocols.http.access import may_administer

OFF = SecuritySettings()
ON = SecuritySettings(remote_administration=True)
LIMITED = SecuritySettings(
    remote_administration=True, administration_networks=("192.0.2.0/24", "2001:db8::/32")
)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_the_machine_itself_always_may(peer: str) -> None:
    assert all(may_administer(peer, settings) for settings in (OFF, ON, LIMITED))


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "2001:db8::7%eth0"])
def test_others_when_it_is_on(peer: str) -> None:
    assert not may_administer(peer, OFF)
    assert may_administer(peer, ON)
    assert may_administer(peer, LIMITED)


@pytest.mark.parametrize("peer", ["198.51.100.1", "::ffff:198.51.100.1", "fe80::1%eth0"])
def test_others_outside_of_the_networks(peer: str) -> None:
    assert may_administer(peer, ON)
    assert not may_administer(peer, LIMITED)


@pytest.mark.parametrize("peer", ["", "unix", "127.0.0.1.example", "0x7f000001", "localhost"])
def test_what_is_no_address_may_not(peer: str) -> None:
    assert not any(may_administer(peer, settings) for settings in (OFF, ON, LIMITED))
