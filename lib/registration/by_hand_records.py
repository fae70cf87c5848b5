"""What people did by hand, on disk: one file an attempt, written as it grows, never overwritten.

An attempt is a file of JSON lines: a header (who, which case, which start, where it began), then one line a change of
the pose, and `stop` as the last. Lines are appended, the one kind of writing here that does not go by a temporary name:
a kernel that dies in mid-case loses nothing, and a line that a power cut tore is passed over. Nobody's sessions are
invented: a row of method `human` comes from such a file only, and the first attempt at a case and start counts.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib import cases as case_rows
from lib.base.errors import UserError

VERSION = 2
HEADER = ("user", "profile", "split", "experiment", "dataset", "case", "start", "attempt", "initial", "centre")


@dataclass
class Attempt:
    """One recorded attempt. `path` (n, 7): seconds and the six parameters after every change (`by_hand.parameters`)."""

    file: Path
    user: str
    profile: str
    split: int
    experiment: str
    dataset: str
    case: str
    start: int
    attempt: int  # 1 is the one that counts
    initial: np.ndarray  # (4, 4) moving -> fixed world
    centre: np.ndarray  # (3,) of the fixed window
    path: np.ndarray
    seconds: float | None  # None: not finished

    @property
    def finished(self) -> bool:
        return self.seconds is not None and len(self.path) > 0

    def of(self, case) -> bool:
        """Whether it is an attempt at this case and start."""
        return (self.dataset, self.case, self.start) == (case.patient.dataset, case.id, int(case.start))

    def check(self, case) -> None:
        """Raises UserError where the case's start is another than the recorded one (patients were made anew)."""
        if not np.allclose(self.initial, case.initial, atol=1e-6):
            raise UserError(
                f"{self.file.name}: {self.user}'s attempt began elsewhere than this case does now; its patients were "
                "made with other settings: restore them, or move the file away."
            )


class Log:
    """The file of a running attempt; `Log(...).keep` is what a `by_hand.Session` calls. Made at the first entry."""

    def __init__(self, folder, case, user: str, cfg, file: Path | None = None, attempt: int = 1):
        self.folder, self.case, self.user, self.cfg = Path(folder), case, user, cfg
        self.file, self.attempt = file, attempt

    def keep(self, seconds: float, params, what: str) -> None:
        """Append one entry."""
        if self.file is None:
            self._create()
        self._append({"t": seconds, "p": [float(p) for p in params], "do": what})

    def _create(self):
        patient = self.case.patient
        self.folder.mkdir(parents=True, exist_ok=True)
        header = {
            "version": VERSION,
            "user": self.user,
            "profile": self.cfg.profile,
            "split": int(self.cfg.split),
            "experiment": patient.experiment,
            "dataset": patient.dataset,
            "case": patient.id,
            "start": int(self.case.start),
            "initial": np.asarray(self.case.initial).tolist(),
            "centre": np.asarray(self.case.centre).tolist(),
            "begun_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        while True:
            file = self.folder / f"{self.user}_{patient.id}_{int(self.case.start)}_{self.attempt}.jsonl"
            try:
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))  # nobody's file is overwritten
            except FileExistsError:
                self.attempt += 1
                continue
            self.file = file
            self._append(header | {"attempt": self.attempt})
            return

    def _append(self, value: dict):
        try:
            with open(self.file, "ab+", buffering=0) as stream:
                torn = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
                stream.write(b"\n" * bool(torn) + json.dumps(value).encode() + b"\n")
        except OSError as problem:
            raise UserError(
                f"{self.file}: this move could not be kept ({problem.strerror}); what was recorded before it stays."
            ) from None


def read(file) -> Attempt:
    """A recorded attempt. Raises UserError if the file is none."""
    file = Path(file)
    try:
        first, *others = file.read_text(encoding="utf-8").splitlines()
        header, entries = json.loads(first), _entries(others)
        if header["version"] != VERSION:
            raise ValueError("another version")
        path = np.array([[e["t"], *e["p"]] for e in entries if e["do"] != "stop"], dtype=np.float64).reshape(-1, 7)
        stop = [e["t"] for e in entries if e["do"] == "stop"]
        known = {name: header[name] for name in HEADER}
        known |= {name: np.array(header[name], dtype=np.float64) for name in ("initial", "centre")}
        if known["initial"].shape != (4, 4) or known["centre"].shape != (3,):
            raise ValueError("no pose")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{file}: not a recorded attempt; move it out of this folder.") from None
    return Attempt(file, path=path, seconds=float(stop[0]) if stop else None, **known)


def _entries(lines: list[str]) -> list[dict]:
    """The entries of a file's lines; one that a power cut tore is passed over."""
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def attempts(folder, cfg) -> list[Attempt]:
    """All attempts at this profile, experiment and split, by file name. Raises UserError naming a damaged file."""
    found = [read(file) for file in sorted(Path(folder).glob("*.jsonl")) if file.stat().st_size]
    wanted = (cfg.profile, cfg.experiment, cfg.split)
    return [a for a in found if (a.profile, a.experiment, a.split) == wanted]


def rows(recorded: list[Attempt], cases, cfg) -> list[dict]:
    """Rows of method `human`: one for each finished first attempt whose case and start are among `cases`.

    Raises UserError where such an attempt began elsewhere than the case does.
    """
    from lib.registration.by_hand import pose_at

    found, known = [], {(c.patient.dataset, c.id, int(c.start)): c for c in cases}
    for attempt in recorded:
        case = known.get((attempt.dataset, attempt.case, attempt.start))
        if case is None or attempt.attempt != 1 or not attempt.finished:
            continue
        attempt.check(case)
        result = case_rows.Result(pose_at(case, attempt.path[-1, 1:]), attempt.seconds, device="human")
        row = case_rows.row(case, "human", result, cfg)
        found.append(row | {"note": f"{row['note']}, user {attempt.user}".lstrip(", ")})
    return found


def write_rows(target, recorded: list[Attempt], cases, cfg) -> int:
    """`cases_human.csv` of what has been recorded, or none where nothing has. Returns how many rows."""
    found, target = rows(recorded, cases, cfg), Path(target)
    if found:
        case_rows.write_rows(target, found)
    else:
        target.unlink(missing_ok=True)
    return len(found)
