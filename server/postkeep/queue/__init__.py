"""Mail for other hosts: kept as files, sent by schedule."""
