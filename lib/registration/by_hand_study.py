"""Which case is next, and what is shown after it: the paper's experiment with people.

Five users aligned each test pair twice, from different starts. Here each user gets, blind and in an order drawn for
them, `starts` of the starts of each test patient of a split: the same starts, and the same score, as every method.
Nothing says how far a case is from the truth before it is finished; an attempt that was begun is gone on with.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib import cases as case_rows
from lib import metrics, rigid
from lib.base.errors import UserError
from lib.registration import by_hand, by_hand_records

USERS, STARTS = 5, 2  # the paper's
TABLE = "cpu"  # the profile whose rows make Table 1 of the front page


def cases_of(folders, evaluation, experiment: str) -> tuple[list, list[str]]:
    """(test cases of patient folders, a sentence for each patient that cannot be read): one bad case stops nobody."""
    from lib.patients import store

    found, problems, e = [], [], evaluation
    for folder in folders:
        try:
            patient = store.load(folder)
            found += case_rows.starts(patient, e.n_starts, e.ranges(experiment), e.seed, e.min_overlap)
        except UserError as problem:
            problems.append(str(problem))
    return found, problems


@dataclass
class Study:
    """One user's cases of one split. `folder` keeps the attempts; `target` is `cases_human.csv`; `run` is the folder
    that holds the agent's rows and walks on the same cases."""

    cases: list
    user: str
    folder: Path
    cfg: object
    run: Path
    starts: int = STARTS
    plan: list = field(init=False)

    def __post_init__(self):
        self.folder, self.run = Path(self.folder), Path(self.run)
        rng = np.random.default_rng(zlib.crc32(self.user.encode()))
        mine = {}
        for k in rng.permutation(len(self.cases)):  # the user's own starts, in the user's own order
            mine.setdefault(self.cases[k].id, []).append(self.cases[k])
        chosen = [case for some in mine.values() for case in some[: self.starts]]
        self.plan = [chosen[k] for k in rng.permutation(len(chosen))]

    @property
    def target(self) -> Path:
        return self.run / "cases_human.csv"

    def attempts(self, case=None) -> list:
        """This user's attempts, at one case or at all."""
        mine = [a for a in by_hand_records.attempts(self.folder, self.cfg) if a.user == self.user]
        return [a for a in mine if case is None or a.of(case)]

    def done(self) -> int:
        """How many cases of the plan are finished."""
        recorded = [a for a in self.attempts() if a.finished]
        return sum(any(a.of(case) for a in recorded) for case in self.plan)

    def next(self):
        """The case that was begun and not finished, else the first of the plan without an attempt, else None. Practice
        (a second attempt) that was left open holds nobody up."""
        recorded = [a for a in self.attempts() if a.attempt == 1]
        begun = [case for case in self.plan if any(a.of(case) and not a.finished for a in recorded)]
        fresh = [case for case in self.plan if not any(a.of(case) for a in recorded)]
        return next(iter(begun + fresh), None)

    def session(self, case, **names) -> by_hand.Session:
        """A session at `case`: the open attempt, or a new one under the next number. Raises UserError where the open
        one began elsewhere."""
        recorded = self.attempts(case)
        still = next((a for a in recorded if not a.finished), None)
        if still is not None:
            still.check(case)
        number = still.attempt if still is not None else 1 + max((a.attempt for a in recorded), default=0)
        log = by_hand_records.Log(self.folder, case, self.user, self.cfg, still and still.file, number)
        session = by_hand.Session(case, self.user, log.keep, path=[] if still is None else still.path.tolist(), **names)
        session.attempt = number
        return session

    def write(self) -> int:
        """Rows of everybody's attempts at this split; returns how many."""
        return by_hand_records.write_rows(
            self.target, by_hand_records.attempts(self.folder, self.cfg), self.cases, self.cfg
        )

    def words(self) -> str:
        """How far the user is, and what the rows are for."""
        feeds = (
            "it feeds Table 1"
            if self.cfg.profile == TABLE
            else f"practice: Table 1 of the front page is fed by the profile {TABLE}"
        )
        return f"{self.user}: {self.done()} of {len(self.plan)} cases done. Profile {self.cfg.profile}: {feeds}."


def outcome(study: Study, session: by_hand.Session, agent: str = "dsl") -> str:
    """What is said when a case is finished: the user's error and the agent's on the same start."""
    case, name = session.case, {"spine": "TRE", "heart": "MME"}[session.case.patient.experiment]
    mine = case_rows.error(case, session.pose)
    limit = metrics.SUCCESS_MM[case.patient.experiment]
    said = [
        f"Start: {name} {case.initial_error:.1f} mm.",
        f"You: {mine:.1f} mm in {session.seconds:.0f} s and {session.moves} moves "
        f"({'a success' if mine <= limit else 'no success'}: the limit is {limit:.0f} mm).",
    ]
    row = agent_row(study.run, case, agent)
    if row is None:
        said.append("The agent has not walked this case yet: run notebook 04 of this profile.")
    else:
        said.append(f"The agent ({agent}): {row['final_error_mm']:.1f} mm in {row['seconds']:.0f} s.")
    if getattr(session, "attempt", 1) > 1:
        said.append(f"This was attempt {session.attempt}; the first one counts.")
    return " ".join(said)


def agent_row(run, case, agent: str):
    """The agent's row for this case and start, or None."""
    file = Path(run) / f"cases_{agent}.csv"
    if not file.exists():
        return None
    table = case_rows.read_rows(file)
    some = table[(table["case"] == case.id) & (table["start"] == int(case.start))]
    return None if some.empty else some.iloc[0]


def agent_walk(run, case, agent: str) -> np.ndarray | None:
    """World poses (steps + 1, 4, 4) of the agent's walk on this case, from `trajectories_<agent>.npz`; None where there
    is none, or it began elsewhere."""
    file = Path(run) / f"trajectories_{agent}.npz"
    if not file.exists():
        return None
    with np.load(file) as kept:
        here = (kept["case"] == case.id) & (kept["start"] == int(case.start))
        if not here.any():
            return None
        states = kept["states"][here][0].astype(np.float64)
    if not np.allclose(states[0], rigid.state(case.patient.truth, case.initial, case.centre), atol=0.01):
        return None
    return rigid.invert(rigid.about(rigid.params_to_matrix(states), case.centre)) @ case.patient.truth
