"""A real CT's patient on another day: what has changed in the body, and the cone-beam scan of it."""

from __future__ import annotations

import numpy as np

from lib.images.volume import sample
from lib.patients.anatomy import Anatomy
from lib.patients.scanner import second
from lib.patients.scanner.conebeam import ConeBeamSettings, simulate

SCANNER = ConeBeamSettings(spacing=2.5, views=140, detector_pixel=3.0)  # the same in every profile


def scan_again(ct, labels, mesh, target, rng, scanner: ConeBeamSettings | second.SecondScanner = SCANNER, implant=None):
    """A cone-beam scan of a CT's patient on another day, centred at `target` (3,), by the first scanner or, given its
    settings, the second; day and pose depend on `rng` alone. implant: a function that puts something into the body
    (Volume -> Volume) before it is scanned.

    Returns the CBCT, the truth (4, 4; CT -> CBCT world), the pose of the body, and `mesh` as it is on that day (CT frame).
    """
    from lib.patients import place

    pose = place.world_pose(target, rng)
    other = another_day(ct, labels, mesh, rng)
    if implant is not None:
        other.body_at_cbct = implant(other.body_at_cbct)
    scan = second.simulate if isinstance(scanner, second.SecondScanner) else simulate
    fixed = scan(other.body_at_cbct, target, rng, scanner, other.meta.get("body_phases"), pose)
    # E2: the heart itself has moved in the body; the truth is the rigid pose that aligns the epicardium best.
    truth = pose @ np.asarray(other.meta.get("heart_pose", np.eye(4)), dtype=np.float64)
    return fixed, truth, pose, other.mesh_cbct


def another_day(ct, labels, mesh, rng) -> Anatomy:
    """The body when the CBCT is made: the CT's table gone and another one there, bowel gas and contrast changed; with a
    `mesh` (the epicardium) also another heart and breathing state. Without this a CBCT simulated from its own CT is so
    like it that any optimiser aligns the two to a tenth of a millimetre."""
    from lib.patients import another_day as day
    from lib.patients import grow

    source = grow.axis_aligned(ct, 2.0)
    numbers = None
    if labels is not None:
        numbers = sample(grow.axis_aligned(labels, 2.0, nearest=True), source.points(), 0.0, "nearest")
    body = day.recolour(source, numbers, rng, 1.0)
    body = body.with_array(day.new_state(body, rng))
    result = Anatomy(source, body, np.zeros(3), meta={})
    if mesh is not None:
        result.mesh_ct = mesh
        result = day.beat(result, rng)
    return result
