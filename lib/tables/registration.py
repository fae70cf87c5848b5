"""The tables of the command `register`: on the real pair, on real CTs, and with organs that have moved."""

from __future__ import annotations

import pandas as pd

from lib.study import degrade, register_check, register_real


def on_the_pair(folder) -> str:
    """The real pair, a line for each kind of files, range and method."""
    return register_check.markdown(pd.read_csv(folder / "register_pair.csv", keep_default_na=False))


def on_real_scans(folder) -> str:
    """Real CTs, a line a range and scan, then all scans."""
    return register_real.markdown(pd.read_csv(folder / "register_real.csv"))


def with_organs_moved(folder) -> str:
    """Agent, command and optimisers from the same starts, with the organs where they were and 15 mm lower."""
    return degrade.markdown(
        *(pd.read_csv(folder / f"{name}.csv") for name in ("degradation", "degradation_optimisers"))
    )
