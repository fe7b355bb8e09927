"""The command line: REST over the engine's Unix socket, or over the folder itself when no engine runs."""
