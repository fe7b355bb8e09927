"""The settings and accounts: declared once, kept as XML files."""
