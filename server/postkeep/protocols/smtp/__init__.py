"""SMTP and submission (RFC 5321, RFC 6409), on aiosmtpd by subclassing."""
