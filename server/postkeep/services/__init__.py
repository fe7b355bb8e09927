"""What a user or an administrator can do. Each service writes, then publishes."""
