"""What one logged-in connection knows: its account, its selected mailbox as told to the client, its state."""
