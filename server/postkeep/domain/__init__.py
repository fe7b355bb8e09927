"""Frozen values and pure rules. Imports nothing of Postkeep."""
