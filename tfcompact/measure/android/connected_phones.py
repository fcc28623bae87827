"""The phones that are connected and ready, each once. No TensorFlow here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tfcompact.errors import UnknownName
from tfcompact.measure.android.adb import Adb, AdbError, DeviceGone, not_ready
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_facts import facts


def phones(
    client: Adb, serials: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None
) -> tuple[Phone, ...]:
    """The devices with these serial numbers, or all that are ready; `tell` hears of the others.

    A number `host:port` that is not listed yet is a device on the network, and is joined.

    Raises `UnknownName` or `AdbError` where there is none, where one that was asked for is not ready, and
    where only devices that are not ready are there.
    """
    found = {device.serial: device for device in client.listed()}
    strangers = [serial for serial in serials if serial not in found and re.fullmatch(r"\S+:\d+", serial)]
    if strangers:
        for serial in strangers:
            client.connect(serial)
        found = {device.serial: device for device in client.listed()}
    for serial in serials:
        if serial not in found:
            if not found:
                break
            raise UnknownName("Android device", serial, found)
    if not found:
        raise DeviceGone(
            "no Android device is connected; connect one with USB debugging switched on (its developer "
            "options), and look at: adb devices"
        )
    chosen = [found[serial] for serial in dict.fromkeys(serials)] or list(found.values())
    ready = [device for device in chosen if device.state == "device"]
    unready = [device for device in chosen if device.state != "device"]
    if unready and (serials or not ready):
        raise not_ready(unready[0].serial, unready[0].state)
    for device in unready:
        tell(f"left out: {not_ready(device.serial, device.state)}")
    return tuple(Phone(client, device.serial) for device in ready)


def connected(
    client: Adb, serials: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None
) -> tuple[Phone, ...]:
    """The phones asked for, or all that are ready, each once. Raises as `phones` does."""
    return distinct(phones(client, serials, tell), tell)


def distinct(phones: Sequence[Phone], tell: Callable[[str], None] = lambda line: None) -> tuple[Phone, ...]:
    """The phones, each once: one that adb lists by cable and by network is taken by cable; `tell` hears of the other.

    One that cannot be asked now is kept: what it is used for says why.
    """
    if len(phones) < 2:
        return tuple(phones)
    taken: dict[str, Phone] = {}
    for one in sorted(phones, key=lambda one: _by_network(one.serial)):
        try:
            name = facts(one).device.name
        except AdbError:
            name = one.serial
        if name in taken:
            tell(f"left out: {one.serial}, since it is {name} too, which is taken as {taken[name].serial}")
        else:
            taken[name] = one
    return tuple(one for one in phones if one in taken.values())


def _by_network(serial: str) -> bool:
    """Whether it is an address, or a name on the network: `adb-NUMBER-abc._adb-tls-connect._tcp`."""
    return re.search(r":\d+$|\._adb[a-z-]*\._tcp\.?$", serial) is not None
