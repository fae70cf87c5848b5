"""The second scanner's orbit, on top of RTK: where source and panel stand, line integrals (Joseph), reconstruction (FDK).

RTK turns about its y axis. Here x is the patient's left, y inferior, z posterior, with the isocentre at 0: `GANTRY` takes
LPS there. A panel may stand off the middle (half-fan): then it needs a full turn, and rays that are seen twice get the
displaced detector's weights; a turn of half a circle and the fan gets Parker's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.images.volume import Volume

GANTRY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # rows x, y, z in terms of L, P, S


@dataclass(frozen=True)
class Orbit:
    """Lengths in mm: `near` source to isocentre, `far` source to panel, `aside` of the panel's middle. `angles` (views,)
    in degrees. The panel has (rows, columns) of `pixel` mm."""

    near: float
    far: float
    angles: np.ndarray
    columns: int
    rows: int
    pixel: float
    aside: float = 0.0

    @property
    def across(self) -> np.ndarray:
        """Position of each column, mm from the isocentre's ray."""
        return (np.arange(self.columns) - (self.columns - 1) / 2) * self.pixel + self.aside

    @property
    def fan(self) -> np.ndarray:
        """Fan angle of each column, degrees."""
        return np.degrees(np.arctan(self.across / self.far))

    @property
    def radius(self) -> float:
        """Of the cylinder that the scan sees in full, mm: every view, or, half-fan, every second."""
        return float(self.near * np.sin(np.arctan(np.abs(self.across).max() / self.far)))

    @property
    def is_short(self) -> bool:
        return np.ptp(self.angles) * (1 + 1 / (len(self.angles) - 1)) < 359

    def coarse(self) -> Orbit:
        """The same panel with pixels twice as large; its numbers of rows and columns must be even."""
        return replace(self, columns=self.columns // 2, rows=self.rows // 2, pixel=2 * self.pixel)

    def stack(self, array: np.ndarray):
        """Views (n, rows, columns) as an ITK image that stands where the panel does."""
        import itk

        image = itk.image_from_array(np.ascontiguousarray(array, np.float32))
        image.SetSpacing([self.pixel, self.pixel, 1.0])
        image.SetOrigin([float(self.across[0]), -(self.rows - 1) / 2 * self.pixel, 0.0])
        return image

    def geometry(self, which=None):
        """RTK's geometry of all views, or of those with index in `which`."""
        geometry = load().ThreeDCircularProjectionGeometry.New()
        for angle in self.angles if which is None else self.angles[which]:
            geometry.AddProjection(self.near, self.far, float(angle))
        return geometry

    def project(self, array: np.ndarray, body: Volume, pose: np.ndarray, which=None) -> np.ndarray:
        """Line integrals (mm) of `array` (nz, ny, nx), which lies on the grid of `body` (whose own is not used); pose
        (4, 4): body world -> gantry, LPS with the isocentre at 0. Returns float32 (views, rows, columns)."""
        import itk

        count = len(self.angles) if which is None else len(which)
        image = itk.image_from_array(np.ascontiguousarray(array, np.float32))
        image.SetSpacing([float(s) for s in body.spacing])
        image.SetDirection(itk.matrix_from_array(GANTRY @ pose[:3, :3] @ body.direction))
        image.SetOrigin([float(v) for v in GANTRY @ (pose[:3, :3] @ body.origin + pose[:3, 3])])
        views = self.stack(np.zeros((count, self.rows, self.columns)))
        forward = load().JosephForwardProjectionImageFilter[type(views), type(image)].New()
        forward.SetInput(0, views)
        forward.SetInput(1, image)
        forward.SetGeometry(self.geometry(which))
        forward.Update()
        return itk.array_from_image(forward.GetOutput())

    def reconstruct(self, lines: np.ndarray, size, spacing, hann: tuple[float, float], extend: float) -> np.ndarray:
        """FDK on a grid (nx, ny, nz) of `spacing` (3,) mm centred in the isocentre, axes L, P, S.

        hann: cut-off along rows and across them, shares of Nyquist; `extend`: share of the panel's width by which cut rows
        are continued. Returns float32 (nz, ny, nx), 1/mm.
        """
        import itk

        rtk, geometry, (nx, ny, nz) = load(), self.geometry(), size
        views = self.stack(lines)
        kind = rtk.ParkerShortScanImageFilter if self.is_short else rtk.DisplacedDetectorImageFilter
        if self.is_short or self.aside:
            weighed = kind[type(views)].New()
            weighed.SetInput(views)
            weighed.SetGeometry(geometry)
            weighed.InPlaceOff()
            weighed.Update()
            views = weighed.GetOutput()
        grid = itk.image_from_array(np.zeros((ny, nz, nx), np.float32))
        steps = np.array([spacing[0], spacing[2], spacing[1]], dtype=float)  # x = L, y = -S, z = P
        grid.SetSpacing(steps.tolist())
        grid.SetOrigin((-(np.array([nx, nz, ny]) - 1) / 2 * steps).tolist())
        fdk = rtk.FDKConeBeamReconstructionFilter[type(views)].New()
        fdk.SetInput(0, grid)
        fdk.SetInput(1, views)
        fdk.SetGeometry(geometry)
        ramp = fdk.GetRampFilter()
        ramp.SetHannCutFrequency(float(hann[0]))
        ramp.SetHannCutFrequencyY(float(hann[1]))
        ramp.SetTruncationCorrection(float(extend) if extend * self.columns >= 3 else 0.0)  # below, RTK divides by zero
        fdk.Update()
        return itk.array_from_image(fdk.GetOutput()).transpose(1, 0, 2)[::-1].copy()


def load():
    """RTK, imported late (it takes seconds) and held to one thread: processes run side by side."""
    import itk
    from itk import RTK

    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(1)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    return RTK
