"""The agent's API: the only thing that the console (or any other unprivileged program) sees of it."""
