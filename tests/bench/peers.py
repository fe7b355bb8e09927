"""Postfix → Dovecot LMTP as a private pair of servers, for measuring beside us.

Debian's packages, but none of Debian's configuration: both get their own configuration, queue, data and
log folders under one temporary folder, listen on loopback (Postfix) or a Unix socket (Dovecot) and are
started and stopped by their own master processes. What influences speed stays at the packages' defaults
(fsync, process limits, concurrency); left out is what we do not do either: TLS, filters, chroot.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

POSTFIX = "/usr/sbin/postfix"
DOVECOT = "/usr/sbin/dovecot"
DOMAIN = "bench.test"
MAIL_USER = "mail"
"""Owner of the Maildirs: a system user that every Debian has."""
START_LIMIT = 20.0

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/state
config_directory = {folder}/postfix
maillog_file_prefixes = {folder}
maillog_file = {folder}/postfix.log
myhostname = mail.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = hash:{folder}/postfix/users
virtual_transport = lmtp:unix:{folder}/run/lmtp
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
biff = no
"""

# service type private unpriv chroot wakeup maxproc command: Debian's master.cf without chroot and with
# only what a message on its way to LMTP meets.
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
local     unix - n n - - local
virtual   unix - n n - - virtual
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

DOVECOT_CONF = """\
protocols = lmtp
base_dir = {folder}/run
state_dir = {folder}/run-state
log_path = {folder}/dovecot.log
ssl = no
mail_location = maildir:~/Maildir
mail_uid = {mail_user}
mail_gid = {mail_user}
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={mail_user} gid={mail_user} home={folder}/home/%n
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@{domain}
}}
"""


def unavailable() -> str:
    """Why the pair cannot run here, in one sentence; empty when it can."""
    if os.geteuid() != 0:
        return "Postfix's master needs root: run this as root to measure beside them"
    missing = [program for program in (POSTFIX, DOVECOT) if not Path(program).exists()]
    return f"{', '.join(missing)} missing: run `.ci/apt peers`" if missing else ""


class Peer:
    """One fresh pair: empty queue, no mailbox yet. `folder` is made by us and removed at the end."""

    name = "Postfix+Dovecot"

    def __init__(self, folder: Path, users: Sequence[str]) -> None:
        self.folder = folder
        self.port = free_port()
        self._users = users
        self._dovecot: subprocess.Popen[bytes] | None = None
        self._started = False

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        for name in ("postfix", "queue", "state", "run", "home"):
            (self.folder / name).mkdir(parents=True)
        for parent in (self.folder, self.folder / "home"):
            parent.chmod(0o755)
        mail, postfix = pwd.getpwnam(MAIL_USER), pwd.getpwnam("postfix")
        os.chown(self.folder / "home", mail.pw_uid, mail.pw_gid)
        os.chown(self.folder / "state", postfix.pw_uid, postfix.pw_gid)
        values = {"folder": self.folder, "domain": DOMAIN, "port": self.port, "mail_user": MAIL_USER}
        (self.folder / "postfix/main.cf").write_text(MAIN_CF.format(**values))
        (self.folder / "postfix/master.cf").write_text(MASTER_CF.format(**values))
        (self.folder / "dovecot.conf").write_text(DOVECOT_CONF.format(**values))
        users = self.folder / "postfix/users"
        users.write_text("".join(f"{user}@{DOMAIN} {user}\n" for user in self._users))
        _run("postmap", "-c", str(self.folder / "postfix"), f"hash:{users}")
        self._dovecot = subprocess.Popen(
            [DOVECOT, "-F", "-c", str(self.folder / "dovecot.conf")],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait(lambda: (self.folder / "run/lmtp").exists(), "Dovecot's LMTP socket")
        _run(POSTFIX, "-c", str(self.folder / "postfix"), "start")
        self._started = True
        self._wait(self._answers, "Postfix's banner")

    def stop(self) -> None:
        if self._started:
            _run(POSTFIX, "-c", str(self.folder / "postfix"), "stop")
            self._started = False
        if self._dovecot is not None:
            self._dovecot.send_signal(signal.SIGTERM)
            self._dovecot.wait(START_LIMIT)
            self._dovecot = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                return probe.recv(512).startswith(b"220")
        except OSError:
            return False

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come up:\n{self.logs()}")
            time.sleep(0.05)

    def logs(self, lines: int = 20) -> str:
        texts = (self.folder / name for name in ("postfix.log", "dovecot.log"))
        found = [text.read_text(errors="replace").splitlines()[-lines:] for text in texts if text.exists()]
        return "\n".join(line for part in found for line in part)

    # --- measuring --------------------------------------------------------------------------------

    def wait_delivered(self, messages: int, limit: float) -> float:
        """When the last of `messages` came into its Maildir (seconds since 1970); looks rarely on purpose."""
        deadline = time.monotonic() + limit
        while self._queued():
            if time.monotonic() > deadline:
                raise AssertionError(f"mail is still queued after {limit:.0f} s:\n{self.logs()}")
            time.sleep(0.1)
        times = [entry.stat().st_ctime for entry in self._mails()]
        if len(times) != messages:
            raise AssertionError(f"{len(times)} of {messages} messages arrived:\n{self.logs()}")
        return max(times)

    def _queued(self) -> bool:
        queues = ("maildrop", "incoming", "active", "deferred")
        return any(files for name in queues for _, _, files in os.walk(self.folder / "queue" / name))

    def _mails(self) -> Iterator[os.DirEntry[str]]:
        for home in os.scandir(self.folder / "home"):
            yield from os.scandir(Path(home.path) / "Maildir/new")

    def cpu(self) -> float:
        """CPU seconds of both masters and all their children, living or reaped."""
        master = int((self.folder / "queue/pid/master.pid").read_text())
        assert self._dovecot is not None
        return tree_cpu(master) + tree_cpu(self._dovecot.pid)


def free_port() -> int:
    """A port of loopback that is free now, below those of outgoing connections."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(25_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def tree_cpu(root: int) -> float:
    """CPU seconds of a process and its descendants (proc(5): stat fields 14–17)."""
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(int(field) for field in fields[11:15])
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += used.get(pid, 0)
        todo += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
