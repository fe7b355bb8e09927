"""The agent: the only privileged code on the box, behind a typed API on a Unix socket."""
