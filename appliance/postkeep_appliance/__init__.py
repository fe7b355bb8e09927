"""What lives on the appliance around the mail server. The version is the one of the server's packages."""

__version__ = "0.1.0"
