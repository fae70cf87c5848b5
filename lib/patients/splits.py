"""Who trains, who validates, who is tested: random splits of drawn patients, as the paper's five blind ones.

Only drawn patients are split. What was grown from a real scan is added to the training side by the study that asks for it
(`lib.study.populations`), which never tries an agent on a scan that its patients grew from.
"""

from __future__ import annotations

import numpy as np

from lib.base.errors import UserError


def split(
    ids, split: int, n_splits: int = 5, n_test: int = 5, n_validation: int = 0, seed: int = 0
) -> dict[str, list[str]]:
    """Patients by side (train, validation, test) of one split; the test patients of different splits are disjoint.

    Raises UserError: no such split, or fewer patients than are asked for.
    """
    ids = sorted(set(ids))
    if not 0 <= split < n_splits:
        raise UserError(f"There is no split {split}; choose 0 to {n_splits - 1}.")
    if n_splits * n_test > len(ids) or n_test + n_validation >= len(ids):
        raise UserError(
            f"{len(ids)} patients are too few for {n_splits} splits of {n_test} test and {n_validation} validation "
            "patients; build more patients or test on fewer."
        )
    order = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]
    test = order[split * n_test : (split + 1) * n_test]
    # Validation patients follow the test block (round the end), so that they too change from split to split.
    rest = order[(split + 1) * n_test :] + order[: split * n_test]
    validation, train = rest[:n_validation], rest[n_validation:]
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test)}
