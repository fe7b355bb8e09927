"""What the agent does to the machine: one port, a real host (Debian) and a dry-run host."""
