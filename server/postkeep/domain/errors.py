"""What can go wrong, by name. A protocol turns each into its own words (RFC 5321 4yz/5yz, IMAP NO)."""


class PostkeepError(Exception):
    """Base of all errors that a user or administrator may be told about; str() is one clear sentence."""


class InvalidAddress(PostkeepError):
    """Not an address or domain name by RFC 5321 §4.1.2 / RFC 6531."""


class InvalidName(PostkeepError):
    """A name (mailbox, user, domain, keyword) that the product does not take."""


class NotFound(PostkeepError):
    """What was named does not exist."""


class AlreadyExists(PostkeepError):
    """What was to be made exists already."""


class InUse(PostkeepError):
    """Refused because other things depend on it (a primary domain, a domain with users, …)."""


class Denied(PostkeepError):
    """The account has no right to do this."""


class LimitReached(PostkeepError):
    """A bound (keywords, recipients, size, connections, …) is reached."""


class MailboxNotFound(NotFound):
    """No such mailbox (IMAP NO [NONEXISTENT], or [TRYCREATE])."""


class MailboxExists(AlreadyExists):
    """A mailbox of this name exists (IMAP NO [ALREADYEXISTS])."""


class MessageNotFound(NotFound):
    """The message was expunged meanwhile."""


class OverQuota(LimitReached):
    """The account's quota would be exceeded (IMAP NO [OVERQUOTA], SMTP 452 4.2.2)."""


class StorageFull(PostkeepError):
    """The disk is full; nothing was written (SMTP 452 4.3.1, IMAP NO [LIMIT])."""


class StorageFailed(PostkeepError):
    """The disk refused to read or write for another reason."""


class StoreTooNew(StorageFailed):
    """A newer version wrote the store; this one cannot read it."""


class DatabaseDamaged(StorageFailed):
    """The database cannot be read; `postkeep rebuild` makes a new one from the packs."""


class CorruptRecord(PostkeepError):
    """A stored record fails its checksum: this one message is lost or damaged, others are not."""


class AuthenticationFailed(PostkeepError):
    """Wrong name or password, or a disabled account; says never which."""


class Throttled(PostkeepError):
    """Too many tries; come back later."""


class ConfigError(PostkeepError):
    """A configuration file that cannot be used: says file, line and reason."""
