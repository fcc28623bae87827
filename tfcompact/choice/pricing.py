"""What offers cost, without training any: by the user's latency table, or by this computer's, made on the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.choice.offers import Offer
from tfcompact.errors import UserError
from tfcompact.export import candidate
from tfcompact.latency import meters, table_making
from tfcompact.latency.cost_table import Table
from tfcompact.latency.interpolation import Interpolated
from tfcompact.models import space_network

WITHIN = 12
"""Priced offers within the budget, from the most promising on, after which no more are looked at."""
MOST = 40  # offers that are priced at all
BESIDE = 3  # offers that are priced for another budget
FIRST_GUESS = 1.5
"""How many times the budget an offer may cost by its multiply-adds and still be priced: that guess is rough."""


@dataclass(frozen=True)
class Priced:
    """An offer with its predicted cost, in the table's unit, and the share of it that was interpolated."""

    offer: Offer
    cost: float
    interpolated: float


class Pricer:
    """Prices by the table at `path`, or by one of this computer in the directory `own`, which grows by what it lacks.

    `extend` measures what the user's table lacks, too, on its device where it is this computer or an emulated one.
    """

    def __init__(
        self, path: Path | None, own: Path, kept: Path, classes: int, log: Callable[[str], None], *, extend: bool
    ) -> None:
        self.path, self.kept, self.classes, self.log = path or self._of_this_computer(own), kept, classes, log
        self.grows = path is None or extend
        self.table = Table.load(path) if path else self._started()
        self.prices = Interpolated(self.table)

    @property
    def unit(self) -> str:
        """ms or instructions."""
        return self.table.setting.unit

    def price(self, offer: Offer) -> Priced:
        """What the offer costs. Raises `UserError` where the table cannot tell."""
        ((name, content),) = self._file(offer)
        network = self.prices.read(content)
        if self.grows and self.table.missing(network):
            with meters.meter(self._config(), self.log) as meter:
                self.table = table_making.make_table([(name, content)], meter, self.path, extend=True, log=self.log)
            self.prices = Interpolated(self.table)
        return Priced(offer, *self.prices.predict(network, name=offer.label))

    def _file(self, offer: Offer) -> list[tuple[str, bytes]]:
        if offer.model.endswith(".json"):
            architecture = space_network.from_file(Path(offer.model)).architecture
            return list(candidate.networks((), [architecture], kept=self.kept))
        return list(candidate.networks([offer.model], px=offer.px, classes=self.classes, kept=self.kept))

    @staticmethod
    def _of_this_computer(own: Path) -> Path:
        """Where this computer's table is: another one where its runtime or anything else of the setting changed."""
        with meters.meter(meters.Config()) as meter:
            setting = json.dumps(meter.setting.to_json(), sort_keys=True)
        return own / f"this-computer-{hashlib.sha256(setting.encode()).hexdigest()[:8]}.json"

    def _started(self) -> Table:
        """This computer's table, with what an earlier choice measured."""
        if self.path.exists():
            return Table.load(self.path)
        self.log("measures this computer: a latency table is made on the way, and kept")
        with meters.meter(meters.Config(), self.log) as meter:
            return table_making.make_table([], meter, self.path, log=self.log)

    def _config(self) -> meters.Config:
        """What measures in the table's setting."""
        setting = self.table.setting
        if setting.device.kind == "android":
            raise UserError(
                f"the table of {setting.device.name} lacks operators; add them with: tfcompact latency-table --extend"
            )
        cpu = setting.device.name.removeprefix("arm64-").removesuffix("-insn")
        emulated = setting.device.kind == "emulated"
        return meters.Config(
            device=setting.device.kind,
            delegate=setting.delegate,
            threads=setting.threads,
            cpu=cpu if emulated else None,
        )


def priced(
    offers: Sequence[Offer], price: Callable[[Offer], Priced], budget: float, log: Callable[[str], None]
) -> tuple[list[Priced], list[str]]:
    """The most promising offers with their costs, and why others could not be priced.

    Those that would cost far more by their multiply-adds are not looked at; what a multiply-add costs is learnt on
    the way, from the cheapest offer on.
    """
    found: list[Priced] = []
    refused: list[str] = []
    known = sorted((offer for offer in offers if offer.macs), key=lambda offer: offer.macs)
    cheapest = known[0] if known else None
    order = ([cheapest] if cheapest else []) + [offer for offer in offers if offer is not cheapest]
    for offer in order:
        inside = [one for one in found if one.cost <= budget and one.offer is not cheapest]
        if len(inside) >= WITHIN or len(found) >= MOST:
            break
        rates = sorted(one.cost / one.offer.macs for one in found if one.offer.macs)
        if offer.macs and rates and offer.macs * rates[len(rates) // 2] > FIRST_GUESS * budget:
            continue
        try:
            found.append(price(offer))
        except UserError as error:
            refused.append(f"{offer.label}: {error}")
            continue
        log(f"{offer.label}: {found[-1].cost:.4g}, {len(inside)} within the budget so far")
    return found, refused


def beside(
    offers: Sequence[Offer], known: Sequence[Priced], price: Callable[[Offer], Priced], budget: float
) -> list[Priced]:
    """The most promising offers for another budget, priced until one is within it, a few at most."""
    rates = sorted(one.cost / one.offer.macs for one in known if one.offer.macs)
    if not rates:
        return []
    seen = {one.offer for one in known}
    found: list[Priced] = []
    for offer in offers:
        if len(found) >= BESIDE or not offer.macs or offer.macs * rates[len(rates) // 2] > budget:
            continue
        if offer in seen:  # priced before: where it fits, nothing more promising is left
            if next(one.cost for one in known if one.offer == offer) <= budget:
                break
            continue
        with contextlib.suppress(UserError):
            found.append(price(offer))
            if found[-1].cost <= budget:
                break
    return found
