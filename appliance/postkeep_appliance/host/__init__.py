"""The machine as typed ports (port.py), for real (debian.py) and in memory (dryrun.py)."""
