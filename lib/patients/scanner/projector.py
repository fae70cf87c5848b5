"""A circular cone-beam scanner on top of RTK: geometry, forward projection (Joseph), reconstruction (FDK).

RTK turns about its y axis; ours is the patient's long axis. The scanner frame used here is RTK's, with X = patient
left, Y = superior, Z = anterior, and its origin in the isocentre: `TO_RTK` maps LPS to it. Volumes keep their own grid:
RTK projects a tilted body through its direction matrix, nothing is interpolated twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.images.volume import Volume

TO_RTK = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # rows X, Y, Z in terms of L, P, S


@dataclass(frozen=True)
class Scanner:
    """One circular trajectory. Lengths in mm; `angles` (n,) in degrees; the detector is (rows, columns) of `pixel` mm."""

    source_to_isocentre: float
    source_to_detector: float
    angles: np.ndarray
    columns: int
    rows: int
    pixel: float

    @property
    def radius(self) -> float:
        """Radius of the cylinder that every view sees in full, mm."""
        half = (self.columns - 1) / 2 * self.pixel
        return self.source_to_isocentre * np.sin(np.arctan(half / self.source_to_detector))

    @property
    def fan(self) -> float:
        """Full fan angle in degrees: a short scan needs 180 of them and this."""
        return float(2 * np.degrees(np.arctan(self.columns / 2 * self.pixel / self.source_to_detector)))

    @property
    def short(self) -> bool:
        """Less than a full turn: views need Parker's weights."""
        return len(self.angles) > 1 and np.ptp(self.angles) * len(self.angles) / (len(self.angles) - 1) < 359

    def binned(self) -> Scanner:
        """The same scanner with pixels twice as large (odd numbers of pixels grow by one)."""
        return replace(self, columns=(self.columns + 1) // 2, rows=(self.rows + 1) // 2, pixel=2 * self.pixel)

    def geometry(self, which=None):
        """The RTK geometry of all views, or of those with index in `which`."""
        rtk = _rtk()
        geometry = rtk.ThreeDCircularProjectionGeometry.New()
        for angle in self.angles if which is None else self.angles[which]:
            geometry.AddProjection(self.source_to_isocentre, self.source_to_detector, float(angle))
        return geometry

    def place(self, image) -> None:
        """Give a stack of projections its place: the central ray meets the middle of the detector."""
        image.SetSpacing([self.pixel, self.pixel, 1.0])
        image.SetOrigin([-(self.columns - 1) / 2 * self.pixel, -(self.rows - 1) / 2 * self.pixel, 0.0])


def _rtk():
    """RTK is imported late: it takes seconds. Its threads are kept to one, processes run side by side."""
    import itk
    from itk import RTK

    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(1)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    return RTK


def project(
    attenuation: np.ndarray, body: Volume, pose: np.ndarray, isocentre, scanner: Scanner, which=None
) -> np.ndarray:
    """Line integrals of `attenuation`, float32 (nz, ny, nx) per mm on the grid of `body` (its own array is not used).

    pose (4, 4): body world -> scanner room (LPS, mm); isocentre (3,) in the room; `which`: indices of views, default
    all. Returns float32 (views, rows, columns).
    """
    rtk = _rtk()
    import itk

    count = len(scanner.angles) if which is None else len(which)
    image = itk.image_from_array(np.ascontiguousarray(attenuation, np.float32))
    image.SetSpacing([float(s) for s in body.spacing])
    image.SetDirection(itk.matrix_from_array(TO_RTK @ pose[:3, :3] @ body.direction))
    image.SetOrigin([float(o) for o in TO_RTK @ (pose[:3, :3] @ body.origin + pose[:3, 3] - isocentre)])
    stack = itk.image_from_array(np.zeros((count, scanner.rows, scanner.columns), np.float32))
    scanner.place(stack)
    forward = rtk.JosephForwardProjectionImageFilter[type(stack), type(image)].New()
    forward.SetInput(0, stack)
    forward.SetInput(1, image)
    forward.SetGeometry(scanner.geometry(which))
    forward.Update()
    return itk.array_from_image(forward.GetOutput())


def reconstruct(
    projections: np.ndarray,
    scanner: Scanner,
    size,
    spacing: float,
    cosine: float = 1.0,
    extrapolate: float = 0.3,
) -> np.ndarray:
    """FDK of line integrals (views, rows, columns) on a grid centred in the isocentre, axes L, P, S.

    size (nx, ny, nz); `cosine` cuts the ramp (share of Nyquist; 0: Ram-Lak); `extrapolate` is the share of the
    detector's width over which truncated rows are continued. Returns float32 (nz, ny, nx), per mm.
    """
    rtk = _rtk()
    import itk

    stack = itk.image_from_array(np.ascontiguousarray(projections, np.float32))
    scanner.place(stack)
    geometry = scanner.geometry()
    if scanner.short:
        parker = rtk.ParkerShortScanImageFilter[type(stack)].New()
        parker.SetInput(stack)
        parker.SetGeometry(geometry)
        parker.InPlaceOff()
        parker.Update()
        stack = parker.GetOutput()
    nx, ny, nz = size
    grid = itk.image_from_array(np.zeros((ny, nz, nx), np.float32))  # Z = -P, Y = S, X = L
    grid.SetSpacing([float(spacing)] * 3)
    grid.SetOrigin([-(nx - 1) / 2 * spacing, -(nz - 1) / 2 * spacing, -(ny - 1) / 2 * spacing])
    fdk = rtk.FDKConeBeamReconstructionFilter[type(stack)].New()
    fdk.SetInput(0, grid)
    fdk.SetInput(1, stack)
    fdk.SetGeometry(geometry)
    ramp = fdk.GetRampFilter()
    # Over less than two pixels RTK divides by zero: nothing is continued then. Rows are continued by their mirror image;
    # over their whole width RTK reads a pixel past the row's end, which is whatever lies in memory there.
    widest = 1.0 - 1.0 / scanner.columns
    ramp.SetTruncationCorrection(min(extrapolate, widest) if extrapolate * scanner.columns >= 3 else 0.0)
    ramp.SetCosineCutFrequency(cosine)
    fdk.Update()
    return itk.array_from_image(fdk.GetOutput())[::-1].transpose(1, 0, 2).copy()


def warm_up() -> None:
    """Load everything a scan needs."""
    import itk

    rtk = _rtk()
    rtk.ThreeDCircularProjectionGeometry.New()
    itk.image_from_array(np.zeros((2, 2, 2), np.float32))
