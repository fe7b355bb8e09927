"""What the machine of the dry run is told to be. Addresses are those of RFC 5737 and RFC 3849."""

import time

ADAPTERS = (
    ("ens192", "00:0c:29:5a:00:01", True, "192.0.2.10/24", "192.0.2.1"),
    ("ens224", "00:0c:29:5a:00:02", False, "198.51.100.10/24", ""),
)
"""(name, MAC, link, address by DHCP, gateway by DHCP)."""

SETUP_CODE = "K7QF-2M9X-TB4C"
FINGERPRINT = ":".join(f"{(number * 37 + 11) % 256:02X}" for number in range(32))
LOGS = ("config", "debug", "error", "mail", "operations", "security", "spam", "warning")

KEYBOARDS = (
    ("be", "Belgian"),
    ("br", "Portuguese (Brazil)"),
    ("ca", "French (Canada)"),
    ("ch", "German (Switzerland)"),
    ("cz", "Czech"),
    ("de", "German"),
    ("dk", "Danish"),
    ("es", "Spanish"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("gb", "English (UK)"),
    ("gr", "Greek"),
    ("hu", "Hungarian"),
    ("it", "Italian"),
    ("jp", "Japanese"),
    ("nl", "Dutch"),
    ("no", "Norwegian"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ru", "Russian"),
    ("se", "Swedish"),
    ("tr", "Turkish"),
    ("ua", "Ukrainian"),
    ("us", "English (US)"),
)
ZONES = (
    "Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Anchorage",
    "America/Argentina/Buenos_Aires", "America/Bogota", "America/Chicago", "America/Denver",
    "America/Halifax", "America/Lima", "America/Los_Angeles", "America/Mexico_City", "America/New_York",
    "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "America/Toronto", "Asia/Bangkok",
    "Asia/Dhaka", "Asia/Dubai", "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Jerusalem", "Asia/Karachi",
    "Asia/Kathmandu", "Asia/Kolkata", "Asia/Manila", "Asia/Riyadh", "Asia/Seoul", "Asia/Shanghai",
    "Asia/Singapore", "Asia/Taipei", "Asia/Tehran", "Asia/Tokyo", "Atlantic/Azores", "Atlantic/Reykjavik",
    "Australia/Adelaide", "Australia/Brisbane", "Australia/Perth", "Australia/Sydney", "Europe/Amsterdam",
    "Europe/Athens", "Europe/Berlin", "Europe/Brussels", "Europe/Budapest", "Europe/Dublin",
    "Europe/Helsinki", "Europe/Istanbul", "Europe/Kyiv", "Europe/Lisbon", "Europe/London", "Europe/Madrid",
    "Europe/Moscow", "Europe/Oslo", "Europe/Paris", "Europe/Prague", "Europe/Rome", "Europe/Stockholm",
    "Europe/Vienna", "Europe/Warsaw", "Europe/Zurich", "Pacific/Auckland", "Pacific/Honolulu", "UTC",
)  # fmt: skip

_WORDS = {
    "mail": "from <ana@example.com> to <ben@example.org> size 4711 delivered",
    "security": "login of ana@example.com from 203.0.113.9 over imap",
    "system": "systemd[1]: Started postkeep.service - Postkeep mail server.",
    "agent": "INFO unlocked by tty1 (uid 997, pid 411)",
}


def log_lines(name: str, now: float) -> list[str]:
    """Sixty lines, one a minute up to `now`."""
    words = _WORDS.get(name, f"a line of the log {name}")
    return [
        f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now - 60 * back))} {words} ({60 - back})"
        for back in range(59, -1, -1)
    ]
