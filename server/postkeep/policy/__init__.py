"""Checks on incoming mail: message and context -> Verdict."""
