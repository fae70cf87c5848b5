"""`python -m lib register --list PAIRS.csv -o RESULTS.csv`: a table of pairs, registered one after the other.

PAIRS.csv has the columns `fixed, moving` and may have `output, resampled, report, json, initial, series, fixed_series`;
paths are relative to the table. A pair without `output` leaves RESULTS_<row>.tfm beside RESULTS.csv. A bad pair is
named and left; a run that was stopped goes on where it was; RESULTS.csv is the table at the end.
"""

from __future__ import annotations

import copy
import csv
from pathlib import Path

from lib.base import provenance
from lib.base.errors import UserError
from lib.registration import files

MAY = ("output", "resampled", "report", "json", "initial", "series", "fixed_series")
PATHS = ("fixed", "moving", "output", "resampled", "report", "json", "initial")
COLUMNS = (
    *("row", "fixed", "moving", "output", "status", "verdict", "reasons", "tx", "ty", "tz", "rx", "ry", "rz"),
    *("vertical", "longitudinal", "lateral", "pitch", "roll", "yaw", "seconds", "options"),
)


def run(options) -> int:
    """Register every pair of `options.list`; 2 where one could not be read, else 3 where one is not to be trusted, else
    0. Raises UserError where the table itself cannot be used."""
    if options.fixed is not None:
        raise UserError("Give either FIXED MOVING or --list, not both.")
    for name in ("resampled", "report", "json", "initial"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} is one pair's: with --list, give a column '{name}' in {options.list}.")
    files.check_outputs(options)
    wanted = [_options(options, pair, number) for number, pair in enumerate(read_list(Path(options.list)), 1)]
    _check_names(options, wanted)
    agent, done = files.agent_of(options), kept(Path(options.output))
    rows = []
    for number, one in enumerate(wanted, 1):
        key = _key(number, one, agent)
        row = next((r for r in done if all(r.get(k) == v for k, v in key.items())), None)
        again = row is None or row["status"] == "2" or not all(Path(name).exists() for name in _outputs(one))
        if again:
            row = key | _register(one, agent)
        rows.append(row)
        who = " -> ".join(Path(name).name if name else "?" for name in (one.moving, one.fixed))
        print(f"{number}/{len(wanted)} {who}: {_said(row)}{'' if again else ' (kept)'}")
        later = [r for r in done if r["row"].isdigit() and int(r["row"]) > number]
        _save(Path(options.output), rows + later)
    _save(Path(options.output), rows)
    found = [str(row["status"]) for row in rows]
    print(
        f"{options.output}: {found.count('0')} good, {found.count('3')} not to be trusted, {found.count('2')} not registered"
    )
    return 2 if "2" in found else files.NOT_TRUSTED if "3" in found else 0


def read_list(path: Path) -> list[dict[str, str]]:
    """The pairs of a table, paths made absolute. Raises UserError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); give a CSV file.") from None
    first = text.split("\n", 1)[0]
    table = csv.DictReader(text.splitlines(), delimiter=";" if ";" in first and "," not in first else ",")
    names = [(name or "").strip() for name in table.fieldnames or []]
    unknown = [name for name in names if name not in ("fixed", "moving", *MAY)]
    if not {"fixed", "moving"} <= set(names) or unknown:
        wrong = f"unknown column '{unknown[0]}'" if unknown else "the columns fixed and moving are needed"
        raise UserError(f"{path}: {wrong}; it may have: fixed, moving, {', '.join(MAY)}.")
    table.fieldnames = names
    pairs = [{k: (v or "").strip() for k, v in row.items() if k} for row in table]
    pairs = [row for row in pairs if any(row.values())]
    if not pairs:
        raise UserError(f"{path}: no pair in this table; give a line for each.")
    for row in pairs:
        row.update({k: str(path.resolve().parent / row[k]) for k in PATHS if row.get(k)})
    return pairs


def _options(options, pair: dict[str, str], number: int):
    one = copy.copy(options)
    one.list = None
    for name in ("fixed", "moving", *MAY):
        if pair.get(name):
            setattr(one, name, pair[name])
    if not pair.get("output"):
        out = Path(options.output)
        one.output = str(out.with_name(f"{out.stem}_{number:03d}{files.FORMATS[options.format][0]}"))
    return one


def _outputs(one) -> list[str]:
    """The files that a pair leaves."""
    return [name for name in (one.output, one.resampled, one.report, one.json) if name]


def _check_names(options, wanted: list) -> None:
    """Raises UserError where a file would be written twice, or over what another row reads."""
    inputs = {Path(name).resolve() for one in wanted for name in (one.fixed, one.moving, one.initial) if name}
    taken = {Path(options.output).resolve(): "the table of results"}
    for number, one in enumerate(wanted, 1):
        for name in _outputs(one):
            path = Path(name).resolve()
            if path in taken or path in inputs:
                other = f"is {taken[path]} too" if path in taken else "is an input of this table"
                raise UserError(f"{options.list}: {name} of row {number} {other}; give every file a name of its own.")
            taken[path] = f"written by row {number}"


def _key(number: int, one, agent) -> dict[str, str]:
    """What makes a row this pair's, with these settings, files and networks; a change of any registers it again."""
    names = ("experiment", "format", "initial", "only", "agent", "series", "fixed_series", "starts", "isocentre")
    said = [str(getattr(one, name)) for name in (*names, "plan_isocentre", "resampled", "report", "json")]
    stamps = [_stamp(Path(name)) for name in (one.fixed, one.moving, one.initial, one.agent) if name]
    calibration = agent[1]  # of these networks; without a search's it has none
    settings = provenance.fingerprint([said, stamps, str(calibration)])[:12]
    files_of = {"fixed": str(one.fixed), "moving": str(one.moving), "output": one.output}
    return {"row": str(number)} | files_of | {"options": settings}


def _stamp(path: Path) -> list:
    """Names, sizes and times of a file, or of the files in a folder: a scan that is exported again has others."""
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in found if p.exists()]


def _register(one, agent) -> dict:
    """One row: registered, or why not."""
    try:
        if not (one.fixed and one.moving):
            raise UserError("fixed or moving is empty in this row; name both files.")
        files.check_outputs(one)
        result = files.one_pair(one, agent, lambda line: None)
    except Exception as error:  # a pair that nobody foresaw must not end the table
        words = str(error) if isinstance(error, UserError) else f"unexpected {type(error).__name__}: {error}"
        return {"status": "2", "verdict": "not registered", "reasons": " ".join(words.split())}
    said = result.summary()
    status = str(files.NOT_TRUSTED if result.trust.reasons else 0)
    from lib.registration.couch import NAMES

    couch = dict(zip(NAMES, result.couch.numbers, strict=True))
    numbers = {k: f"{v:.4f}" for k, v in (said["six_numbers"] | couch).items()}
    reasons = {"reasons": "; ".join(result.trust.reasons), "seconds": f"{result.seconds['total']:.1f}"}
    return {"status": status, "verdict": result.trust.verdict} | reasons | numbers


def _said(row) -> str:
    return f"{row['verdict']}{': ' + row['reasons'] if row['reasons'] else ''}"


def kept(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier run; none where there is no table, or another's."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream)
            return list(table) if table.fieldnames == list(COLUMNS) else []
    except (OSError, UnicodeDecodeError):
        return []


def _save(path: Path, rows: list[dict]) -> None:
    with provenance.atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, restval="")
        table.writeheader()
        table.writerows(rows)
