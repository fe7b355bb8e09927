"""The start screen as values: from a status to its lines (CON-1)."""

from postkeep_appliance.api.types import EngineState, StatusAnswer

from postkeep_console.views.start import Line
from postkeep_console.words import Words

MOST_ADDRESSES = 4
MOST_URLS = 2
_ENGINE_COLOURS = {
    EngineState.RUNNING: "ok",
    EngineState.STARTING: "warning",
    EngineState.NOT_SET_UP: "warning",
    EngineState.STOPPED: "warning",
    EngineState.DISABLED: "warning",
    EngineState.FAILED: "error",
}
_ORDER = {"error": 0, "warning": 1, "ok": 2}


def start_lines(status: StatusAnswer, words: Words) -> list[Line]:
    """What matters first: where to reach it, how it is, what to do."""
    label, shown = _label, words.shown
    addresses = _some(status.addresses, MOST_ADDRESSES, words) or words("network.no_address")
    lines = [
        Line(words("start.hostname"), shown(status.hostname)),
        Line(words("start.addresses"), addresses),
        *label(words("start.administration"), status.administration_urls, words),
        *label(words("start.client"), status.client_urls, words),
    ]
    state = words(f"engine_state.{status.engine.name.lower()}")
    lines.append(Line(words("start.engine"), state, _ENGINE_COLOURS[status.engine]))
    lines.append(Line("SSH", words("switch.on" if status.ssh else "switch.off")))
    if status.fingerprint:
        parts = status.fingerprint.split(":")
        half = (len(parts) + 1) // 2
        lines.append(Line(words("start.certificate"), shown("SHA-256 " + ":".join(parts[:half]))))
        lines.append(Line("", shown(" " * 8 + ":".join(parts[half:]))))
    if not status.set_up:
        lines.append(Line("", words("start.not_set_up"), "warning"))
        if status.setup_code:
            lines.append(Line(words("start.code"), shown(status.setup_code)))
    if status.first_password:
        lines.append(Line("", words("start.first_password"), "warning"))
    for health in sorted(status.health, key=lambda health: _ORDER[health.level]):
        text = f"{health.subject}: {health.text}"
        if health.advice:
            text += f"{'' if health.text.endswith(('.', '!', '?')) else '.'} {health.advice}"
        mark = {"ok": "+ ", "warning": "! ", "error": "!! "}[health.level]
        lines.append(Line("", mark + shown(text), health.level))
    lines += [Line("", "* " + shown(notice), "warning") for notice in status.notices]
    return lines


def clock_text(status: StatusAnswer) -> str:
    """The header's clock: date, minutes and zone."""
    return f"{status.time[:16].replace('T', ' ')} {status.time_zone}"


def _label(label: str, texts: tuple[str, ...], words: Words) -> list[Line]:
    shown = [words.shown(text) for text in texts[:MOST_URLS]]
    if not shown:
        return [Line(label, words("start.none"))]
    return [Line(label, shown[0]), *(Line("", text) for text in shown[1:])]


def _some(texts: tuple[str, ...], most: int, words: Words) -> str:
    rest = len(texts) - most
    return words.shown("  ".join(texts[:most])) + (f"  (+{rest})" if rest > 0 else "")
