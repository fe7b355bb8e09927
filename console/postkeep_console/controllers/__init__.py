"""What happens: a room a screen. Controllers ask the agent, show views, decide. No widgets, no sockets."""
