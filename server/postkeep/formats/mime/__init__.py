"""MIME structure by offsets: what IMAP asks of a message, found once at delivery."""
