"""postkeep demo: a ready server with two users and some mail to look at."""

import os
import secrets
import string
from dataclasses import replace
from pathlib import Path

import click

from postkeep.app import Engine
from postkeep.cli.client import Refused
from postkeep.house import House
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.files import SystemFiles, replace_atomically
from postkeep.services.accounts import NewUser
from postkeep.services.configuration import State
from postkeep.services.demo import install_demo
from postkeep.services.passwords import PasswordHashes
from postkeep.services.rights import ROOT
from postkeep.services.setup import Setup, is_set_up, set_up

DOMAIN = "example.test"
HOSTNAME = "mail.example.test"
ADMINISTRATOR = "admin"
USERS = {"alice": "Alice Meyer", "bob": "Bob Tanaka"}
PASSWORDS = "demo-passwords.txt"
# No sign that a command line or a URL would take for something else.
_LETTERS = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 16


async def prepare(data: Path) -> dict[str, str]:
    """Make the demo folder if it is new; passwords by user. Interrupted, it goes on where it stopped."""
    files = SystemFiles()
    fresh = not is_set_up(data, files)
    if not fresh and not (data / PASSWORDS).exists():
        raise Refused(f"{data} is no demo folder; run: postkeep serve --data {data}")
    passwords = _passwords(data, files)
    if fresh:
        hashes = PasswordHashes()
        setup = Setup(HOSTNAME, DOMAIN, ADMINISTRATOR, passwords[ADMINISTRATOR])
        await set_up(
            data, setup, files, SystemClock(), hashes, certificate_names=("localhost", "127.0.0.1", "::1")
        )
        hashes.close()
    house = await House.open(data, deliver=False)
    try:
        missing = [name for name in USERS if house.directory.account(name) is None]
        if fresh:
            await house.configuration.change(_plain_logins)
        if fresh or missing:
            new = [NewUser(name, password=passwords[name], full_name=USERS[name]) for name in missing]
            await house.accounts.add_users(ROOT, new)
            await install_demo(house.store, house.directory.accounts(), house.clock.now())
    finally:
        await house.close()
    return passwords


def _plain_logins(state: State) -> State:
    """Clients may be tried without TLS too: the demo listens on 127.0.0.1 alone."""
    server = state.server
    return replace(
        state,
        server=replace(
            server,
            imap=replace(server.imap, plaintext_login=True),
            pop3=replace(server.pop3, plaintext_login=True),
        ),
    )


def _password() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_PASSWORD_LENGTH))


def _passwords(data: Path, files: SystemFiles) -> dict[str, str]:
    """Read or make DATA/demo-passwords.txt (mode 0600)."""
    path = data / PASSWORDS
    names = (ADMINISTRATOR, *USERS)
    if path.exists():
        lines = [line.split() for line in path.read_text("utf-8").splitlines()]
        passwords = {fields[0]: fields[1] for fields in lines if len(fields) == 2}
        if set(names) <= set(passwords):
            return passwords
    passwords = {name: _password() for name in names}
    files.mkdir(data)
    text = "".join(f"{name} {password}\n" for name, password in passwords.items())
    replace_atomically(files, path, text.encode())
    os.chmod(path, 0o600)
    return passwords


def overview(engine: Engine, data: Path, passwords: dict[str, str]) -> str:
    """What a newcomer wants to know, with commands that can be copied."""
    states = {state.name: state for state in engine.control.states()}
    ports = {name: state.listening[0][1] for name, state in states.items() if state.running}
    lines = [f"Postkeep demo: {HOSTNAME}, domain {DOMAIN}, data in {data}", ""]
    lines.append("  user                   password")
    lines += [f"  {f'{name}@{DOMAIN}':<22} {password}" for name, password in passwords.items()]
    lines.append("")
    for title, plain, tls in (("SMTP", "smtp", ""), ("Submission", "submission", "smtps")):
        lines.append(f"  {title:<11} {_where(ports, plain, tls)}")
    server = engine.house.configuration.server
    for title, plain, tls, clear in (
        ("IMAP", "imap", "imaps", server.imap.plaintext_login),
        ("POP3", "pop3", "pop3s", server.pop3.plaintext_login),
    ):
        lines.append(f"  {title:<11} {_where(ports, plain, tls, clear)}")
    if "admin" in ports:
        lines.append(f"  REST API    https://127.0.0.1:{ports['admin']}/api/v1 (openapi.json describes it)")
    if "http" in ports:
        lines.append(f"  Web         http://127.0.0.1:{ports['http']}/")
    lines += ["", "Read alice's mail:"]
    if "imaps" in ports:
        credentials = f"alice:{passwords['alice']}"
        lines.append(f"  curl -k -u '{credentials}' 'imaps://127.0.0.1:{ports['imaps']}/INBOX;UID=1'")
    if "submission" in ports:
        lines.append("Send bob a message:")
        lines.append(
            f"  swaks --server 127.0.0.1:{ports['submission']} --tls --auth PLAIN --auth-user alice "
            f"--auth-password '{passwords['alice']}' --from alice@{DOMAIN} --to bob@{DOMAIN}"
        )
    failures = [state.failure for state in states.values() if state.failure]
    lines += ["", *failures, "Stop with Ctrl+C."]
    return "\n".join(lines)


def _where(ports: dict[str, int], plain: str, tls: str, clear: bool = False) -> str:
    said = []
    if plain in ports:
        said.append(f"127.0.0.1:{ports[plain]} (STARTTLS{', or no TLS at all' if clear else ''})")
    if tls in ports:
        said.append(f"127.0.0.1:{ports[tls]} (TLS)")
    return ", ".join(said) or "does not run"


def announce(engine: Engine, data: Path, passwords: dict[str, str]) -> None:
    click.echo(overview(engine, data, passwords))
    click.echo("ready")
