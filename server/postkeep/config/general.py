"""Settings of the server as a whole."""

from dataclasses import dataclass

from postkeep.config.declare import setting
from postkeep.domain.address import parse_domain
from postkeep.domain.errors import ConfigError, InvalidAddress


@dataclass(frozen=True, slots=True)
class GeneralSettings:
    """Section General of mailserver.cfg."""

    hostname: str = setting(
        "localhost",
        "InternetHostname",
        "DNS name of this server: in greetings, Received fields and the certificate",
        keywords="internet hostname fqdn helo ehlo dns",
    )

    def __post_init__(self) -> None:
        try:
            parse_domain(self.hostname)
        except InvalidAddress as error:
            raise ConfigError(f"InternetHostname: {error}") from error
