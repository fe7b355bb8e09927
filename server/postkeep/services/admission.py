"""Who may send what to whom: the verdicts on MAIL and RCPT (rows SMT-1, SMT-2, SMT-5). No open relay."""

import ipaddress

from postkeep.config.smtp import SmtpSettings
from postkeep.domain.account import Account
from postkeep.domain.address import Address, parse_address
from postkeep.domain.errors import InvalidAddress
from postkeep.domain.verdict import Action, Verdict, defer, reject
from postkeep.queue.queue import QueuedRecipient
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.deliver import Deliverer
from postkeep.services.directory import Directory
from postkeep.services.envelope import Client, LocalRecipient, Transaction
from postkeep.services.harvesting import Harvesters

SENDER_OK = Verdict(Action.ACCEPT, 250, "2.1.0", "Ok")
SESSION_OVER = defer("Your account has changed, log in again", 421, "4.7.0")
RECIPIENT_OK = Verdict(Action.ACCEPT, 250, "2.1.5", "Ok")
BAD_SENDER = reject("Sender address is not an address", 553, "5.1.7")
BAD_RECIPIENT = reject("Recipient address is not an address", 553, "5.1.3")
NEEDS_UTF8 = reject("Address with non-ASCII characters needs SMTPUTF8", 553, "5.6.7")
NOT_YOURS = reject("Sender address is not one of yours", 553, "5.7.1")
MUST_AUTHENTICATE = reject("Authentication required for senders of this domain", 550, "5.7.1")
RELAYING_DENIED = reject("Relaying denied", 550, "5.7.1")
UNKNOWN_USER = reject("No such user here", 550, "5.1.1")
DISABLED = reject("Mailbox is disabled, not accepting messages", 550, "5.2.1")
MAILBOX_FULL = defer("Mailbox is full", 452, "4.2.2")
TOO_MANY_RECIPIENTS = defer("Too many recipients", 452, "4.5.3")
TOO_MANY_UNKNOWN = defer("Too many unknown recipients", 421, "4.7.0")
TOO_BIG = reject("Message size exceeds the limit", 552, "5.3.4")


class Admission:
    """Judges senders and recipients against the settings, the directory and the quotas."""

    def __init__(
        self,
        settings: SmtpSettings,
        directory: Directory,
        deliverer: Deliverer,
        logs: Logs,
        clock: Clock,
        hostname: str,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._deliverer = deliverer
        self._logs = logs
        self._hostname = hostname
        self._harvesters = Harvesters(settings.maximum_unknown_recipients, clock)
        self._relays: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for text in settings.relay_networks:
            try:
                self._relays.append(ipaddress.ip_network(text.strip(), strict=False))
            except ValueError as error:
                logs.error.write(f"RelayNetworks: {error}; this entry is left out")

    def is_trusted(self, address: str) -> bool:
        """May hosts of this address relay without authentication?"""
        if not self._relays:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._relays)

    def size_limit(self, client: Client) -> int:
        """Largest message that this client may send, in octets; 0 means any."""
        limit = self._settings.maximum_message_size
        if client.account is not None:
            domain = self._directory.domain(client.account.domain)
            if domain is not None and domain.max_message_size:
                limit = min(limit or domain.max_message_size, domain.max_message_size)
        return limit

    def sender(self, client: Client, transaction: Transaction, path: str) -> Verdict:
        """MAIL: `path` without angle brackets, "" for the null sender. Fills `transaction.sender`."""
        if not self._is_current(client):
            return SESSION_OVER
        limit = self.size_limit(client)
        if limit and transaction.size > limit:
            return TOO_BIG  # RFC 1870 §6.1
        if not path:
            # RFC 5321 §4.5.5; users' programs send their notifications so too (RFC 8098 §2.1)
            transaction.sender = None
            return SENDER_OK
        if not path.isascii() and not transaction.smtputf8:
            return NEEDS_UTF8
        try:
            sender = parse_address(path)
        except (InvalidAddress, UnicodeError, ValueError):
            return BAD_SENDER
        account = client.account
        if account is not None:
            if self._settings.own_addresses_only and not self.owns(account, sender):
                self._logs.security.write(
                    f"SMTP: {account.key} at {client.address} may not send as <{sender}>"
                )
                return NOT_YOURS
        elif (
            self._settings.require_authentication_for_local_senders
            and not client.trusted
            and self._directory.is_local(sender.domain)
        ):
            self._logs.security.write(f"SMTP: local sender <{sender}> from {client.address} without login")
            return MUST_AUTHENTICATE
        transaction.sender = sender
        return SENDER_OK

    def _is_current(self, client: Client) -> bool:
        """Would the session's login still hold? Sessions are ended when it does not; this is for the case
        that one was not. Other changes of the account (aliases, quota) hold from here on."""
        account = client.account
        if account is None:
            return True
        present = self._directory.account(account.key)
        if present is None or not present.enabled or present.password_hash != account.password_hash:
            return False
        client.account = present
        return True

    def owns(self, account: Account, sender: Address) -> bool:
        """Is it the account's own address, one of its aliases, or an alias that leads to it?"""
        if sender.key == account.key:
            return True
        if sender.local.lower() in (account.name, *(alias.lower() for alias in account.aliases)):
            domain = self._directory.domain(account.domain)
            if domain is not None and (sender.domain == domain.name or sender.domain in domain.aliases):
                return True
        if not self._directory.is_local(sender.domain):
            return False
        return any(found.key == account.key for found in self._directory.resolve(sender).accounts)

    def recipient(
        self, client: Client, transaction: Transaction, path: str, notify: str = "", original: str = ""
    ) -> Verdict:
        """RCPT: `path` without angle brackets; NOTIFY and ORCPT of RFC 3461. Adds to `transaction`."""
        if not self._is_current(client):
            return SESSION_OVER
        if client.account is None and self._harvesters.is_over(client.address):
            return self._too_many_unknown(client)
        if len(transaction.recipients) >= self._settings.maximum_recipients:
            return TOO_MANY_RECIPIENTS  # RFC 5321 §4.5.3.1.10
        if not path.isascii() and not transaction.smtputf8:
            return NEEDS_UTF8
        try:
            if path.lower() == "postmaster":
                # RFC 5321 §4.5.1: without a domain too
                address = Address("postmaster", self._directory.primary_domain or self._hostname)
            else:
                address = parse_address(path)
        except (InvalidAddress, UnicodeError, ValueError):
            return BAD_RECIPIENT
        if self._directory.is_local(address.domain):
            verdict = self._local(client, transaction, address, notify, original)
        elif client.account is not None or client.trusted:
            transaction.remote[str(address)] = QueuedRecipient(address, original, notify)
            verdict = RECIPIENT_OK
        else:
            self._logs.security.write(
                f"SMTP: relaying denied, from={transaction.path}, to=<{address}>, peer={client.address}"
            )
            return RELAYING_DENIED
        if verdict is RECIPIENT_OK:
            transaction.recipients.append(path)
        return verdict

    def _local(
        self, client: Client, transaction: Transaction, address: Address, notify: str, original: str
    ) -> Verdict:
        found = self._directory.resolve(address)
        accounts = found.accounts
        if not found.found or not (accounts or found.remote):
            return self._unknown(client)
        live = [account for account in accounts if account.enabled]
        if not live and not found.remote:
            return DISABLED
        over_quota = self._deliverer.quotas.over
        if not found.remote and all(over_quota(account, transaction.size) for account in live):
            return MAILBOX_FULL
        for account in live:
            transaction.accounts[account.key] = account
        for remote in found.remote:
            transaction.remote.setdefault(str(remote), QueuedRecipient(remote, original, notify))
        if live:
            recipient = QueuedRecipient(address, original, notify)
            keys = tuple(account.key for account in live)
            transaction.local.setdefault(address.key, LocalRecipient(recipient, keys))
        return RECIPIENT_OK

    def _unknown(self, client: Client) -> Verdict:
        """Row SMT-2: counted by connection, and by address for those that nobody vouches for."""
        client.unknown_recipients += 1
        limit = self._settings.maximum_unknown_recipients
        if client.account is None and not self.is_trusted(client.address):
            self._harvesters.count(client.address)
            if self._harvesters.is_over(client.address):
                return self._too_many_unknown(client)
        if limit and client.unknown_recipients > limit:
            return self._too_many_unknown(client)
        return UNKNOWN_USER

    def _too_many_unknown(self, client: Client) -> Verdict:
        self._logs.security.write(f"SMTP: too many unknown recipients, peer={client.address}")
        return TOO_MANY_UNKNOWN
