"""What a population consists of: one row a patient, measured on the saved images; and real scans to look at beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lib import rigid
from lib.images.normalise import field_of_view
from lib.images.volume import Volume, gaussian, resample, sample
from lib.patients import store

FACTS = ("source", "target_level", "table", "gas", "stent", "residual_mm", "seconds")


def row(folder) -> dict:
    """id, sizes (mm), soft-tissue level and noise of the CBCT, overlap of the images, annotation error, facts."""
    patient = store.load(folder)
    seen = field_of_view(patient.fixed)
    low, high = np.array(patient.moving.size), patient.moving.spacing
    level, noise = soft_tissue(patient.fixed, seen)
    marked = [patient.annotated.get(f"{kind}_fixed") for kind in ("landmarks", "mesh")]
    exact = patient.landmarks_fixed if marked[0] is not None else patient.mesh_fixed and patient.mesh_fixed[0]
    drawn = marked[0] if marked[0] is not None else marked[1] and marked[1][0]
    error = None if drawn is None else round(float(np.linalg.norm(drawn - exact, axis=1).mean()), 2)
    facts = {k: patient.meta[k] for k in FACTS if isinstance(patient.meta.get(k), str | int | float | bool)}
    return {
        "id": patient.id,
        "dataset": patient.dataset,
        "ct_height_mm": round(low[2] * high[2]),
        "cbct_diameter_mm": round(extent(seen, patient.fixed, 2)),
        "cbct_height_mm": round(extent(seen, patient.fixed, 0)),
        "overlap": round(overlap(patient, seen), 3),
        "cbct_level_hu": round(level),
        "cbct_noise_hu": round(noise),
        "annotation_error_mm": error,
    } | facts


def write(folders, path) -> list[dict]:
    """The rows of all patients as CSV. Returns them."""
    import pandas as pd

    from lib.base.provenance import atomic

    rows = [row(folder) for folder in folders]
    with atomic(Path(path)) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return rows


def extent(mask: torch.Tensor, volume: Volume, dim: int) -> float:
    """Length in mm of a mask along array dimension `dim`."""
    hit = mask.any(dim=(dim + 1) % 3 if dim else 1)
    hit = hit.any(dim=0) if dim else hit.any(dim=1)
    index = hit.nonzero()
    return float(index[-1] - index[0] + 1) * float(volume.spacing[2 - dim]) if len(index) else 0.0


def overlap(patient, seen: torch.Tensor) -> float:
    """Share of the CBCT's field of view that the CT covers at the true pose."""
    points = patient.fixed.points()[seen][::37]
    back = torch.as_tensor(rigid.invert(patient.truth), dtype=torch.float32)
    inside = sample(patient.moving, points @ back[:3, :3].T + back[:3, 3], fill=-9999.0)
    return float((inside > -5000).float().mean())


def soft_tissue(volume: Volume, seen: torch.Tensor) -> tuple[float, float]:
    """Median, and standard deviation of the finest detail, of what is neither gas nor bone; in the volume's numbers."""
    values = volume.array
    fine = values - gaussian(values, (1.0, 1.0, 0.0))
    smooth = gaussian(values, (2.0, 2.0, 1.0))
    near = seen & ((values - smooth).abs() < 120) & (smooth > -450) & (smooth < 250)
    return (float(values[near].median()), float(fine[near].std())) if near.any() else (float("nan"),) * 2


def real_images(experiment: str, kind: str, limit: int = 4, spacing: float = 3.0) -> dict[str, Volume]:
    """Name -> image of real scans on this machine, to look at: `kind` "ct" or "cbct". Empty where there is none. E2: a CT
    is cut so that the heart is in the middle; a CBCT of another part of the body is called so."""
    from lib.patients.scans import manifest, marks

    found = {}
    for scan in manifest.real_scans(experiment=None if kind == "cbct" else experiment):
        if len(found) < limit and (kind == "ct" or scan.is_pair):
            image, labels, _ = scan.load() if kind == "ct" else (scan.load_cbct(), None, None)
            if experiment == "heart" and kind == "ct":
                vertices, _ = marks.heart_mesh(scan.manifest.heart, labels)
                image = about(image, vertices.mean(axis=0))
            other = "" if kind == "ct" or experiment in scan.manifest.experiments else f" (no {experiment})"
            found[scan.name + other] = resample(image, np.maximum(image.spacing, spacing))
    return found


def about(image: Volume, centre: np.ndarray) -> Volume:
    """The slices of an image as far as they reach equally far to both sides of `centre` (3,), world."""
    place = (np.linalg.inv(image.affine) @ np.append(centre, 1.0))[2]
    k = int(np.clip(round(place), 0, image.size[2] - 1))
    half = min(k, image.size[2] - 1 - k)
    origin = image.origin + image.direction[:, 2] * image.spacing[2] * (k - half)
    return Volume(image.array[k - half : k + half + 1], image.spacing, origin, image.direction)
