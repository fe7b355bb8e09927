"""Settings of logging in and of the administration (rows SRV-4, WEB-2, WEB-3, USR-8)."""

from dataclasses import dataclass

from postkeep.config import checks
from postkeep.config.declare import setting


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """Section Security of mailserver.cfg."""

    block_addresses: bool = setting(
        True,
        "BlockGuessingAddresses",
        "Block an address from a service after too many failed logins in a minute",
        keywords="password guessing attack brute force block",
    )
    lock_accounts: bool = setting(
        True,
        "LockGuessedAccounts",
        "Lock an account for all services after too many failed logins in a minute",
        keywords="password guessing attack brute force lock",
    )
    guessing_limit: int = setting(
        10,
        "GuessingLimit",
        "Failed logins within one minute that count as an attack",
        minimum=1,
        maximum=1_000,
    )
    guessing_block_seconds: int = setting(
        300,
        "GuessingBlockTime",
        "How long addresses are blocked and accounts are locked",
        unit="seconds",
        minimum=1,
        maximum=86_400,
    )
    guessing_exempt: tuple[str, ...] = setting(
        (),
        "GuessingExempt",
        "Addresses or networks (192.0.2.0/24) that are never blocked",
        keywords="trusted ip group exempt",
        check=checks.network,
    )
    login_memory_seconds: int = setting(
        300,
        "LoginMemory",
        "How long a verified password is remembered (keyed hash, in memory) to spare its check; 0: never",
        unit="seconds",
        minimum=0,
        maximum=3_600,
    )
    password_minimum: int = setting(
        8, "PasswordMinimumLength", "Shortest password that may be set", minimum=1, maximum=128
    )
    remote_administration: bool = setting(
        False,
        "RemoteAdministration",
        "Allow administration from other hosts; off, only this machine itself may administer",
        keywords="remote admin 4040 web interface",
    )
    administration_networks: tuple[str, ...] = setting(
        (),
        "AdministrationNetworks",
        "With remote administration on: addresses or networks it is limited to; empty means any",
        keywords="remote admin ip group",
        check=checks.network,
    )
    session_idle_minutes: int = setting(
        30, "SessionIdleTime", "An administrator's session ends after this long without a request",
        unit="minutes", minimum=1, maximum=10_080,
    )  # fmt: skip
    session_hours: int = setting(
        12, "SessionMaximumTime", "An administrator's session ends after this long in any case",
        unit="hours", minimum=1, maximum=720,
    )  # fmt: skip
