"""The verdict on a place that the judge chose: numbers, limits, and sentences for people.

Seven things are looked at. Who found it: the search, the agent or both, and how many of the agent's starts ended there.
Of the images there: how much of the cone-beam scan lies inside the CT; how alike they are, of the spine at the CT's bone;
by how much the place leads over every other place that a scout brought; whether the images are as alike a vertebra
further, or more alike a little further along the body. A place that one scout alone found must lead by more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lib.registration.trust import BAD, GOOD, LOOK, Calibration, worth

FILE = "judged.json"  # beside an agent's networks
AT_BONE = {True: " at bone", False: ""}
NEXT = {True: "the next vertebrae", False: "places 16 to 48 mm along the body"}
FOUND = {  # who found it: in a table, in a sentence
    "both": ("search and agent", "search and agent agree"),
    "search": ("search alone", "the search found the place"),
    "agent": ("agent alone", "the agent found the place"),
    "judge": ("the judge, next to where the scouts ended", "the judge found the place next to where the scouts ended"),
}
NUMBERS = ("overlap", "agreement", "scouts", "likeness", "lead", "beside", "shift")


@dataclass(frozen=True)
class JudgedLimits:
    """Below (or above) these the verdict is "do not trust". Set by hand, to be on the safe side, until calibrated."""

    min_overlap: float = 0.35  # share of the CBCT's field of view inside the CT
    min_likeness: float = 0.3  # correlation of local contrast, of the spine at the CT's bone
    min_lead: float = 0.08  # over the best other place; likeness weighed by what is compared
    min_lead_alone: float = 0.15  # the same where one of two scouts alone found it
    min_beside: float = 0.0  # likeness less that of the best place 16 to 48 mm further along the body
    max_shift: float = 6.0  # mm along the body to where the images are most alike
    same_place: float = 10.0  # mm, mean displacement of points 50 mm from the centre


@dataclass
class Judged:
    """The numbers behind a verdict; `reasons` holds a sentence for each that is bad."""

    overlap: float
    agreement: float  # share of the agent's starts that ended there; 0 where none walked
    scouts: float  # how many found it: 0 (the judge alone) to 2
    likeness: float
    lead: float
    beside: float
    shift: float
    found_by: str = "both"  # one of FOUND
    bone: bool = True  # whether likeness is that at bone: of the spine
    reasons: list[str] = field(default_factory=list)
    calibration: Calibration = Calibration(JudgedLimits())

    @property
    def verdict(self) -> str:
        return BAD if self.reasons else GOOD

    def numbers(self) -> dict[str, float]:
        """What `judge` judges by."""
        return {name: getattr(self, name) for name in NUMBERS}

    def sentence(self) -> str:
        """The verdict in one line, with what such a verdict was worth so far."""
        if self.reasons:
            return f"{BAD}: " + "; ".join(self.reasons)
        who = FOUND[self.found_by][1]
        return f"{GOOD}: {who} and the images support it; {worth(self.calibration)}. {LOOK}"

    def lines(self, starts: int) -> list[tuple[str, str, str]]:
        """What was looked at, what it was, and from where on it is good; for a table. starts: how many walked."""
        limits = self.calibration.limits
        who = FOUND[self.found_by][0]
        least = limits.min_lead if self.scouts > 1 else limits.min_lead_alone
        beside = f"at least {limits.min_beside:+g}"
        walked = [("of the agent's starts ended there", f"{self.agreement:.0%} of {starts}", "")] if starts else []
        return [
            ("found by", who, ""),
            *walked,
            ("CBCT inside the CT", f"{self.overlap:.0%}", f"at least {limits.min_overlap:.0%}"),
            (f"likeness{AT_BONE[self.bone]}", f"{self.likeness:.2f}", f"at least {limits.min_likeness:g}"),
            ("lead over any other place that was found", f"{self.lead:+.2f}", f"at least {least:+g}"),
            (f"lead over {NEXT[self.bone]}", f"{self.beside:+.2f}", beside),
            ("most alike when moved along the body by", f"{self.shift:+.0f} mm", f"at most {limits.max_shift:g} mm"),
        ]


def judge(
    numbers: dict[str, float],
    found_by: str,
    rival: str = "",
    calibration: Calibration | None = None,
    bone: bool = True,
) -> Judged:
    """A Judged from `NUMBERS`. rival: who found the second best place (of FOUND), "" where there is none. bone:
    whether likeness is that at bone."""
    calibration, n = calibration or Calibration(JudgedLimits()), numbers
    apart = {found_by, rival} == {"search", "agent"}
    unsure = "search and agent ended at different places, and the images hardly tell which is right"
    sentences = {
        "overlap": f"only {n['overlap']:.0%} of the CBCT lies inside the CT",
        "likeness": f"the images are alike by {n['likeness']:.2f} only{AT_BONE[bone]}",
        "lead": f"{unsure if apart else 'another place is as likely'} (lead {n['lead']:.2f})",
        "beside": f"{'a vertebra further' if bone else 'further along the body'} the images are as alike (lead {n['beside']:.2f})",
        "shift": f"moved {n['shift']:+.0f} mm along the body they are more alike",
    }
    reasons = [sentences[name] for name, bad in failed(n, calibration.limits).items() if bad]
    return Judged(**n, found_by=found_by, bone=bone, reasons=reasons, calibration=calibration)


def failed(n, limits: JudgedLimits) -> dict:
    """Which numbers are beyond their limits: name -> bool, or a bool array where the numbers are arrays."""
    alone = (n["scouts"] < 2) & (n["lead"] < limits.min_lead_alone)
    return {
        "overlap": n["overlap"] < limits.min_overlap,
        "likeness": n["likeness"] < limits.min_likeness,
        "lead": (n["lead"] < limits.min_lead) | alone,
        "beside": n["beside"] < limits.min_beside,
        "shift": abs(n["shift"]) > limits.max_shift,
    }
