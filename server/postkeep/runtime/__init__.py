"""What the engine needs of the machine: clock, files, resolver, dialer, TLS, listeners, logs."""
