"""Settings as they are declared in config/, by section (row SET-2)."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from postkeep.config.declare import Declaration
from postkeep.config.sections import Value, fields_of, format_value
from postkeep.config.server import SECTIONS, Place, change_settings, settings_of
from postkeep.domain.errors import NotFound
from postkeep.protocols.http.context import Services, Who
from postkeep.protocols.http.models import SettingOut, SettingsChanged
from postkeep.services.configuration import State

router = APIRouter(prefix="/settings", tags=["settings"])
AT_ONCE = frozenset({"Security", "Logs", "Queue"})
"""Sections whose settings hold from the moment of the change; others from the next start of the engine."""
_SHOWN = 200


@router.get("", summary="All settings with their declarations; search finds names, help and keywords")
async def settings(services: Services, who: Who, search: str = "") -> list[SettingOut]:
    who.require_read()
    words = search.casefold().split()
    return [
        _out(place, value)
        for place, value in settings_of(services.configuration.server)
        if all(word in _text(place.section, place.field.declaration) for word in words)
    ]


@router.get("/{section}", summary="The settings of one section")
async def section_settings(services: Services, who: Who, section: str) -> list[SettingOut]:
    who.require_read()
    if section not in SECTIONS:
        raise NotFound(f"there is no section “{section[:80]}”; there are {', '.join(SECTIONS)}")
    return [
        _out(place, value)
        for place, value in settings_of(services.configuration.server)
        if place.section == section
    ]


@router.patch("/{section}", summary="Change settings of one section, named by variable")
async def change(
    services: Services, who: Who, section: str, body: dict[str, bool | int | float | str | list[str]]
) -> SettingsChanged:
    who.require_write()

    def edit(state: State) -> State:
        return replace(state, server=change_settings(state.server, section, body))

    before = services.configuration.server
    if services.check_settings is not None:
        await asyncio.to_thread(services.check_settings, before, change_settings(before, section, body))
    state = await services.configuration.change(edit)
    changed = _changed(getattr(before, SECTIONS[section]), getattr(state.server, SECTIONS[section]), body)
    for declaration, value in changed.values():
        shown = "(secret)" if declaration.secret else format_value(value)[:_SHOWN]
        services.logs.config.write(f"{who}: set {section}.{declaration.variable} to {shown}")
    restart = services.control is not None and bool(changed) and section not in AT_ONCE
    return SettingsChanged(changed=sorted(changed), restart_needed=restart)


def _changed(
    before: object, after: object, named: Mapping[str, object]
) -> dict[str, tuple[Declaration, Value]]:
    found = {}
    for field in fields_of(type(after)):
        value = getattr(after, field.attribute)
        if field.declaration.variable in named and value != getattr(before, field.attribute):
            found[field.declaration.variable] = (field.declaration, value)
    return found


def _out(place: Place, value: Any) -> SettingOut:
    field = place.field
    declaration = field.declaration
    shown = "" if declaration.secret else list(value) if isinstance(value, tuple) else value
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return SettingOut(
        section=place.section,
        variable=declaration.variable,
        value="(set)" if declaration.secret and value else shown,
        default=default,
        type=field.type_name,
        choices=list(field.choices),
        unit=declaration.unit,
        minimum=declaration.minimum,
        maximum=declaration.maximum,
        secret=declaration.secret,
        help=declaration.help,
        keywords=declaration.keywords,
    )


def _text(section: str, declaration: Declaration) -> str:
    return " ".join((section, declaration.variable, declaration.help, declaration.keywords)).casefold()
