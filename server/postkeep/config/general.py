"""Settings of the server as a whole."""

from dataclasses import dataclass

from postkeep.config import checks
from postkeep.config.declare import setting


@dataclass(frozen=True, slots=True)
class GeneralSettings:
    """Section General of mailserver.cfg."""

    hostname: str = setting(
        "localhost",
        "InternetHostname",
        "DNS name of this server: in greetings, Received fields and the certificate",
        keywords="internet hostname fqdn helo ehlo dns",
        check=checks.domain_name,
    )
