"""The boot console: what stands on tty1. Unprivileged; it talks to the agent alone."""

__version__ = "0.1.0"
