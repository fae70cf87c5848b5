"""Settings of the baselines: every constant a reader may want to argue with, in one place. Lengths in mm,
angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MattesSettings:
    """One run of SimpleITK's registration method, with Mattes mutual information unless said otherwise."""

    metric: str = "mattes"  # mattes | correlation
    spacing: float = 3.0  # both images are brought to this first (0: left as they are)
    bins: int = 50  # of the histogram; 50 in the paper
    use_mask: bool = True  # count only the CBCT's field of view
    clamp: tuple[float, float] = (-1000.0, 3000.0)  # intensities outside are cut off
    samples: int = 8000  # random voxels of the fixed image at which the metric is evaluated, a level
    optimiser: str = "regular_step"  # regular_step | line_search
    learning_rate: float = 2.0  # first step (mm at the object's rim where scales come from the physical shift)
    min_step: float = 0.01  # regular step stops below this
    iterations: int = 100  # at most, a level
    rotation_scale: float = 0.0  # fixed weight of the versor against 1 mm; 0: scales from the physical shift
    shrink: tuple[int, ...] = (4, 2, 1)  # pyramid, coarse to fine
    smooth: tuple[float, ...] = (6.0, 3.0, 0.0)  # sigma a level, mm


def _published() -> MattesSettings:
    return MattesSettings(
        use_mask=False,
        samples=5000,
        learning_rate=1.0,
        min_step=0.001,
        iterations=200,
        rotation_scale=1000.0,
        smooth=(2.0, 1.0, 0.0),
    )


def _tuned() -> MattesSettings:
    # The winner of the study choice_of_settings among sixteen, on patients that are tested in no split.
    return MattesSettings(
        spacing=4.0, clamp=(-200.0, 800.0), bins=32, samples=20000, learning_rate=4.0, smooth=(12.0, 6.0, 2.0)
    )


@dataclass(frozen=True)
class BoneSettings:
    """`itk_bone`: where it looks at the end."""

    level: float = 200.0  # HU of a CT from which on it is bone
    margin: float = 6.0  # mm beside it that count too: without its edge a bone cannot be seen
    smooth: tuple[float, ...] = (6.0, 3.0, 0.0)  # sigma a level, mm; less than `tuned`, which began further away


@dataclass(frozen=True)
class ElastixSettings:
    """elastix with its shipped `rigid` parameter map; only what is named here is changed in it."""

    spacing: float = 3.0  # both images are brought to this first
    use_mask: bool = True


@dataclass(frozen=True)
class AntsSettings:
    """antspyx: `Rigid`, and `affine_initializer`."""

    spacing: float = 4.0
    clamp: tuple[float, float] = (-200.0, 800.0)
    use_mask: bool = True
    iterations: tuple[int, ...] = (1000, 500, 100)  # a level; the shipped four levels begin at
    shrink: tuple[int, ...] = (3, 2, 1)  # a sixth of the grid, which at 4 mm leaves too few voxels:
    smooth: tuple[int, ...] = (2, 1, 0)  # one start in seven then ends decimetres away
    sampling: float = 0.5  # share of the voxels (shipped: 0.2 of a finer grid)
    search_factor: float = 20.0  # degrees between tried rotations, the shipped value
    radian_fraction: float = 0.1  # share of the sphere that is searched, the shipped value: +-36 degrees
    search_iterations: int = 10  # local steps from each, the shipped value


@dataclass(frozen=True)
class GreedySettings:
    """picsl_greedy, rigid."""

    spacing: float = 4.0
    clamp: tuple[float, float] = (-1024.0, 3071.0)
    use_mask: bool = True
    metric: str = "WNCC 2x2x2"  # local correlation that knows where images end; NMI loses 9 of 9 near starts, NCC 2
    iterations: str = "100x50x20"  # a level, coarse to fine
    search_starts: int = 500
    search_degrees: float = 20.0  # standard deviation of the tried rotations
    search_mm: float = 50.0  # standard deviation of the tried shifts


def _quick() -> MattesSettings:
    return MattesSettings(spacing=4.0, clamp=(-200.0, 800.0), bins=32)


@dataclass(frozen=True)
class SearchSettings:
    """`itk_search`: many starts, a fair winner, which then goes on as `itk_tuned`."""

    mattes: MattesSettings = field(default_factory=_quick)  # of the many; `tuned` would take twice as long

    box: tuple[float, ...] = (40.0, 40.0, 160.0, 35.0, 35.0, 35.0)  # +- about the start: mm, mm, mm, degrees
    screened: int = 1024  # poses tried by the cheap metric (a power of two)
    screen_points: int = 1000  # points of the cheap metric
    screen_smooth: float = 6.0  # sigma of the CT for it, mm
    refined: int = 8  # of them optimised
    apart: float = 15.0  # mm between those, on average
    min_overlap: float = 0.4  # least share of the field of view inside the CT
    final_points: int = 20000


@dataclass(frozen=True)
class BoneSearchSettings:
    """`bone_search`: many starts at bone alone; the box is that of `search`, what counts as bone that of `bone`."""

    mattes: MattesSettings = field(
        default_factory=lambda: MattesSettings(spacing=4.0, clamp=(-200.0, 800.0), bins=32, samples=20000)
    )  # of the many
    screened: int = 8192  # poses tried by the cheap likeness (a power of two)
    voxel: float = 12.0  # mm, of the images in that: 8 lost one of eight far starts
    step: float = 10.0  # mm between its points
    refined: int = 64  # of them optimised; 16 do on patients made for the choice, not on the real pair
    apart: float = 8.0  # mm between those, on average
    final_voxel: float = 4.0  # mm, where ends are compared


@dataclass(frozen=True)
class FftSearchSettings:
    """`fft_search`: all shifts of a range by FFT at a lattice of rotations, then likeness at bone."""

    reach: tuple[float, ...] = (40.0, 40.0, 160.0)  # +- mm about the start along x, y, z: as the box of `search`
    degrees: float = 30.0  # the same of each component of the rotation
    step: float = 20.0  # degrees, cell of the body-centred lattice: no rotation is further than 11 from one tried
    voxel: float = 8.0  # mm, of the correlated images
    overlap: float = 0.35  # least share of the field of view inside the CT
    floor: float = 0.03  # variance of local contrast (-1 to 1) below which a region counts as this flat
    peaks: int = 6  # shifts kept for a rotation
    apart: float = 7.0  # mm between distinct places; degrees: twice that
    ranked: int = 24  # places that climb at `coarse` mm
    coarse: float = 8.0
    coarse_steps: int = 10
    refined: int = 8  # of them at `fine` mm
    fine: float = 4.0
    fine_steps: int = 10
    points: int = 4000  # of the CT, near bone


def _gentle() -> MattesSettings:
    return MattesSettings(
        spacing=3.0, clamp=(-200.0, 800.0), samples=15000, learning_rate=1.0, shrink=(2, 1), smooth=(2.0, 0.0)
    )


def _to_map() -> MattesSettings:
    return MattesSettings(
        metric="correlation",
        spacing=0.0,
        clamp=(0.0, 100.0),
        samples=20000,
        learning_rate=3.0,
        shrink=(2, 1),
        smooth=(6.0, 0.0),
    )


@dataclass(frozen=True)
class SemanticSettings:
    """M3: a classifier of voxels for each image, then one map is aligned to the other."""

    spacing: float = 5.0  # of the probability maps
    voxels: int = 3000  # sampled from each image of a training patient, half of them in the object
    trees: int = 60
    depth: int = 5  # of each tree
    learning_rate: float = 0.15
    patients: tuple[int, ...] = ()  # trained also on so few patients: rows `semantic_<n>`, how it starves
    mattes: MattesSettings = field(default_factory=_to_map)


@dataclass(frozen=True)
class PolishSettings:
    """`dsl_polish`: from the agent's pose."""

    mattes: MattesSettings = field(default_factory=_gentle)
    limit: float = 25.0  # mm that anything in the field of view may travel
    points: int = 20000  # of the comparison before and after


def _refine() -> MattesSettings:
    return MattesSettings(spacing=4.0, clamp=(-200.0, 800.0), iterations=60, shrink=(2, 1), smooth=(3.0, 0.0))


@dataclass(frozen=True)
class QuasiGlobalSettings:
    """M2: 2-D projections of the anatomy, searched at all shifts for a grid of rotations."""

    spacing: float = 5.0  # pixel of the projections
    angles: tuple[float, ...] = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)  # about each axis, off the start
    reach: tuple[float, ...] = (60.0, 60.0, 180.0)  # shifts searched, +- mm
    window: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {"spine": (150.0, 700.0), "heart": (-600.0, 100.0)}
    )  # HU of the target
    slab: float = 20.0  # mm beside the field of view (at the start) from which the CT still counts
    max_points: int = 8000  # of the CT's target
    peaks: int = 2  # shifts kept for a rotation
    min_overlap: float = 0.4  # least share of the field of view covered by the CT
    screened: int = 300  # poses ordered again in 3-D
    weighed: bool = False  # that order: mutual information times the overlap
    smooth: float = 6.0  # sigma of the CT for that, mm
    points: int = 4000  # of the 3-D comparisons
    refined: int = 4  # poses refined in 3-D
    apart: float = 15.0  # mm between those, on average
    mattes: MattesSettings = field(default_factory=_refine)


@dataclass(frozen=True)
class GroundTruthSettings:
    """The row `ground_truth`: what an expert's annotation adds to the errors that the patients carry."""

    level_error: float = 0.6  # mm per axis, common to a vertebra's landmarks; of the size of their own error


@dataclass(frozen=True)
class BaselineSettings:
    """Which methods are run, and the settings of each."""

    # names of lib.baselines.methods; dsl_polish only where notebook 04 has already run
    methods: tuple[str, ...] = ("itk", "quasi_global", "semantic", "itk_tuned", "elastix", "greedy")
    real_methods: tuple[str, ...] = ("itk", "itk_tuned")  # on real scans (`dataset`), where there are many cases
    anatomy: str = "spine"  # spine | heart: what the anatomy-targeted methods look for; set from the case
    seed: int = 0  # every method's random draws, with the case's own name
    workers: int = 2  # processes side by side, one thread each
    ground_truth: GroundTruthSettings = field(default_factory=GroundTruthSettings)
    itk: MattesSettings = field(default_factory=_published)
    tuned: MattesSettings = field(default_factory=_tuned)
    elastix: ElastixSettings = field(default_factory=ElastixSettings)
    bone: BoneSettings = field(default_factory=BoneSettings)
    bone_search: BoneSearchSettings = field(default_factory=BoneSearchSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    fft_search: FftSearchSettings = field(default_factory=FftSearchSettings)
    quasi_global: QuasiGlobalSettings = field(default_factory=QuasiGlobalSettings)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    polish: PolishSettings = field(default_factory=PolishSettings)
    ants: AntsSettings = field(default_factory=AntsSettings)
    greedy: GreedySettings = field(default_factory=GreedySettings)
