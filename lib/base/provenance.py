"""Who made this file, from what: a JSON beside every result."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.base.disk import atomic
from lib.base.folders import ROOT

# What makes a result; a change elsewhere does not make it "dirty".
CODE = ("lib", "notebooks", "configs", "data_manifests", "Snakefile", "requirements.lock")
PACKAGES = (
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "papermill", "snakemake"),
    *("SimpleITK", "itk", "itk-rtk", "itk-elastix", "antspyx", "picsl_greedy"),
)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """`value` as indented JSON with sorted names, atomically."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, sort_keys=True, default=_plain)
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of settings (dataclass, dict, list ...): equal settings, equal fingerprint, on any machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def beside(path: str | os.PathLike) -> Path:
    """Where the provenance of `path` stands: table1.csv -> table1.csv.provenance.json."""
    path = Path(path)
    return path.with_name(path.name + ".provenance.json")


def record(
    path: str | os.PathLike,
    cfg: Any = None,
    *,
    seeds: Mapping[str, int] | Iterable[int] = (),
    inputs: Iterable[str | os.PathLike] = (),
    started: float | None = None,
    **more: Any,
) -> Path:
    """Write the provenance JSON beside the finished file `path`; returns the JSON's path.

    `cfg` is the `config.Profile` used, `inputs` the files it was made from, `started` the `time.time()` at which the
    work began, `more` anything else worth keeping. No machine name, no absolute path is written.
    """
    path = Path(path)
    value = {
        "artefact": path.name,
        "sha256": sha256(path) if path.is_file() else None,
        "git": git_state(),
        "config": _config(cfg),
        "manifests": {p.stem: sha256(p) for p in sorted((ROOT / "data_manifests").glob("*.yaml"))},
        "inputs": {_relative(p): sha256(p) for p in inputs},
        "seeds": dict(seeds) if isinstance(seeds, Mapping) else list(seeds),
        "versions": versions(),
        "machine": machine(),
        "wall_seconds": None if started is None else round(time.time() - started, 1),
        "finished_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **more,
    }
    write_json(beside(path), value)
    return beside(path)


def verify(folder: str | os.PathLike) -> list[str]:
    """Sentences on files under `folder` that are no longer what their provenance says. Empty: all sound."""
    problems = []
    for path in sorted(Path(folder).rglob("*.provenance.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        artefact = path.with_name(path.name.removesuffix(".provenance.json"))
        if not artefact.exists():
            problems.append(f"{_relative(artefact)} is missing; its provenance is there.")
        elif value["sha256"] and sha256(artefact) != value["sha256"]:
            problems.append(f"{_relative(artefact)} was changed after it was made; make it again.")
    return problems


def git_state() -> dict[str, Any]:
    """Commit of the repository and whether the code that makes results differs from it; Nones outside git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--", *CODE))}


def committed(path: str | os.PathLike) -> bool:
    """Whether a file is as it was committed; also True outside git, where nobody can tell."""
    return not _git("status", "--porcelain", "--", os.path.abspath(path))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make numbers, where installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """Kind of machine: system, processor, cores, memory, GPU. Nothing that names it."""
    torch = sys.modules.get("torch")  # not imported for this alone
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "gpu": gpu,
    }


def _config(cfg: Any) -> dict[str, Any] | None:
    if cfg is None:
        return None
    values = cfg.as_dict() if hasattr(cfg, "as_dict") else _plain(cfg)
    return {"hash": fingerprint(values), "values": values}


def _git(*words: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _relative(path: str | os.PathLike) -> str:
    """Path inside the project, or the bare name of a file elsewhere."""
    full = Path(path).resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else full.name


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """JSON for what json does not know: dataclasses, arrays, numbers of numpy, paths, sets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
