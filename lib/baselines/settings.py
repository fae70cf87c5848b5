"""Settings of the baselines: every constant a reader may want to argue with, in one place. Lengths in mm, angles in degrees."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

from lib.base.limits import (
    ONCE,
    Count,
    Counts,
    Experiment,
    HalfRanges,
    Interval,
    Number,
    Positive,
    Rate,
    Reach,
    Rule,
    Share,
    Size,
    Turn,
)
from lib.base.sections import hint
from lib.baselines import methods as registry

Levels = Annotated[str, Rule(re.compile(r"\d+(x\d+)*").fullmatch, "numbers such as 100x50x20")]
_METRIC = re.compile(r"SSD|MI|NMI|W?NCC \d+x\d+x\d+")
GreedyMetric = Annotated[str, Rule(_METRIC.fullmatch, "SSD, MI, NMI, or NCC or WNCC and a radius: NCC 2x2x2")]


@dataclass(frozen=True)
class MattesSettings:
    """One run of SimpleITK's registration method, with Mattes mutual information unless said otherwise."""

    metric: Literal["mattes", "correlation"] = "mattes"
    spacing: Size = 3.0  # both images are brought to this first (0: left as they are)
    bins: Count = 50  # of the histogram; 50 in the paper
    use_mask: bool = True  # count only the CBCT's field of view
    clamp: Interval = (-1000.0, 3000.0)  # intensities outside are cut off
    samples: Count = 8000  # random voxels of the fixed image at which the metric is evaluated, a level
    optimiser: Literal["regular_step", "line_search"] = "regular_step"
    learning_rate: Positive = 2.0  # first step (mm at the object's rim where scales come from the physical shift)
    min_step: Positive = 0.01  # regular step stops below this
    iterations: Count = 100  # at most, a level
    rotation_scale: Size = 0.0  # fixed weight of the versor against 1 mm; 0: scales from the physical shift
    shrink: Counts = (4, 2, 1)  # pyramid, coarse to fine
    smooth: tuple[Size, ...] = (6.0, 3.0, 0.0)  # sigma a level, mm

    def disagree(self) -> str:
        """Whether each level has a sigma."""
        levels, given = len(self.shrink), len(self.smooth)
        return "" if levels == given else f"has {levels} levels in shrink and {given} in smooth; give as many of both."


def _mattes(**settings):
    """The default of a field."""
    return field(default_factory=partial(MattesSettings, **settings))


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
    margin: Size = 6.0  # mm beside it that count too: without its edge a bone cannot be seen
    smooth: tuple[Size, ...] = (6.0, 3.0, 0.0)  # sigma a level, mm; less than `tuned`, which began further away


@dataclass(frozen=True)
class ElastixSettings:
    """elastix with its shipped `rigid` parameter map; only what is named here is changed in it."""

    spacing: Positive = 3.0  # both images are brought to this first
    use_mask: bool = True


@dataclass(frozen=True)
class AntsSettings:
    """antspyx: `Rigid`, and `affine_initializer`."""

    spacing: Positive = 4.0
    clamp: Interval = (-200.0, 800.0)
    use_mask: bool = True
    iterations: Counts = (1000, 500, 100)  # a level; the shipped four levels begin at
    shrink: Counts = (3, 2, 1)  # a sixth of the grid, which at 4 mm leaves too few voxels:
    smooth: tuple[Number, ...] = (2, 1, 0)  # one start in seven then ends decimetres away
    sampling: Share = 0.5  # share of the voxels (shipped: 0.2 of a finer grid)
    search_factor: Turn = 20.0  # degrees between tried rotations, the shipped value
    radian_fraction: Share = 0.2  # of pi, to both sides: +-36 degrees, as the starts turn by 30 (shipped: 0.1)
    search_iterations: Count = 10  # local steps from each, the shipped value


@dataclass(frozen=True)
class GreedySettings:
    """picsl_greedy, rigid."""

    spacing: Positive = 4.0
    clamp: Interval = (-1024.0, 3071.0)
    use_mask: bool = True
    metric: GreedyMetric = (
        "WNCC 2x2x2"  # local correlation that knows where images end; NMI loses 9 of 9 near starts, NCC 2
    )
    iterations: Levels = "100x50x20"  # a level, coarse to fine
    search_starts: Count = 500
    search_degrees: Turn = 20.0  # standard deviation of the tried rotations
    search_mm: Size = 50.0  # standard deviation of the tried shifts


@dataclass(frozen=True)
class SearchSettings:
    """`itk_search`: many starts, a fair winner, which then goes on as `itk_tuned`."""

    # Of the many; `tuned` would take twice as long.
    mattes: MattesSettings = _mattes(spacing=4.0, clamp=(-200.0, 800.0), bins=32)
    box: HalfRanges = (40.0, 40.0, 160.0, 35.0, 35.0, 35.0)  # +- about the start: mm, mm, mm, degrees
    screened: Count = 1024  # poses tried by the cheap metric (a power of two)
    screen_points: Count = 1000  # points of the cheap metric
    screen_smooth: Size = 6.0  # sigma of the CT for it, mm
    refined: Count = 8  # of them optimised
    apart: Size = 15.0  # mm between those, on average
    min_overlap: Share = 0.4  # least share of the field of view inside the CT
    final_points: Count = 20000


@dataclass(frozen=True)
class BoneSearchSettings:
    """`bone_search`: many starts at bone alone; the box is that of `search`, what counts as bone that of `bone`."""

    mattes: MattesSettings = _mattes(spacing=4.0, clamp=(-200.0, 800.0), bins=32, samples=20000)  # of the many
    screened: Count = 8192  # poses tried by the cheap likeness (a power of two)
    voxel: Positive = 12.0  # mm, of the images in that: 8 lost one of eight far starts
    step: Positive = 10.0  # mm between its points
    refined: Count = 64  # of them optimised; 16 do on patients made for the choice, not on the real pair
    apart: Size = 8.0  # mm between those, on average
    final_voxel: Positive = 4.0  # mm, where ends are compared


@dataclass(frozen=True)
class FftSearchSettings:
    """`fft_search`: all shifts of a range by FFT at a lattice of rotations, then likeness at bone."""

    reach: Reach = (40.0, 40.0, 160.0)  # +- mm about the start along x, y, z: as the box of `search`
    degrees: Turn = 30.0  # the same of each component of the rotation
    step: Positive = 20.0  # degrees, cell of the body-centred lattice: no rotation is further than 11 from one tried
    voxel: Positive = 8.0  # mm, of the correlated images
    overlap: Share = 0.35  # least share of the field of view inside the CT
    floor: Size = 0.03  # variance of local contrast (-1 to 1) below which a region counts as this flat
    peaks: Count = 6  # shifts kept for a rotation
    apart: Size = 7.0  # mm between distinct places; degrees: twice that
    ranked: Count = 24  # places that climb at `coarse` mm
    coarse: Positive = 8.0
    coarse_steps: Count = 10
    refined: Count = 8  # of them at `fine` mm
    fine: Positive = 4.0
    fine_steps: Count = 10
    points: Count = 4000  # of the CT, near bone


def _for_hearts() -> FftSearchSettings:
    # 400 starts drawn in each of six CTs, and not registered, ask for at most 148 mm across (docs/real_scans.md).
    return FftSearchSettings(reach=(150.0, 150.0, 160.0))


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

    spacing: Positive = 5.0  # of the probability maps
    voxels: Count = 3000  # sampled from each image of a training patient, half of them in the object
    trees: Count = 60
    depth: Count = 5  # of each tree
    learning_rate: Rate = 0.15
    patients: tuple[Count, ...] = ()  # trained also on so few patients: rows `semantic_<n>`, how it starves
    mattes: MattesSettings = field(default_factory=_to_map)


@dataclass(frozen=True)
class PolishSettings:
    """`dsl_polish`: from the agent's pose."""

    mattes: MattesSettings = _mattes(
        spacing=3.0, clamp=(-200.0, 800.0), samples=15000, learning_rate=1.0, shrink=(2, 1), smooth=(2.0, 0.0)
    )
    limit: Size = 25.0  # mm that anything in the field of view may travel
    points: Count = 20000  # of the comparison before and after


@dataclass(frozen=True)
class QuasiGlobalSettings:
    """M2: 2-D projections of the anatomy, searched at all shifts for a grid of rotations."""

    spacing: Positive = 5.0  # pixel of the projections
    # About each axis, off the start.
    angles: Annotated[tuple[float, ...], ONCE] = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)
    reach: Reach = (60.0, 60.0, 180.0)  # shifts searched, +- mm
    window: dict[Experiment, Interval] = field(
        default_factory=lambda: {"spine": (150.0, 700.0), "heart": (-600.0, 100.0)}
    )  # HU of the target
    local: tuple[Experiment, ...] = ()  # whose window counts from the local mean (a Gaussian of 20 mm)
    darkest: float = -200.0  # HU; what is less counts as this in that mean
    slab: Size = 20.0  # mm beside the field of view (at the start) from which the CT still counts
    max_points: Count = 8000  # of the CT's target
    peaks: Count = 2  # shifts kept for a rotation
    min_overlap: Share = 0.4  # least share of the field of view covered by the CT
    screened: Count = 300  # poses ordered again in 3-D
    weighed: bool = False  # that order: mutual information times the overlap
    smooth: Size = 6.0  # sigma of the CT for that, mm
    points: Count = 4000  # of the 3-D comparisons
    refined: Count = 4  # poses refined in 3-D
    apart: Size = 15.0  # mm between those, on average
    mattes: MattesSettings = _mattes(
        spacing=4.0, clamp=(-200.0, 800.0), iterations=60, shrink=(2, 1), smooth=(3.0, 0.0)
    )


def _above_neighbourhood() -> QuasiGlobalSettings:
    # The one window that was tried on the patients that are tested in no split (results/baseline_choice.csv), after the
    # cause had been seen on three test patients; E2 is as it was.
    return QuasiGlobalSettings(window={"spine": (40.0, 300.0), "heart": (-600.0, 100.0)}, local=("spine",))


@dataclass(frozen=True)
class GroundTruthSettings:
    """The row `ground_truth`: what an expert's annotation adds to the errors that the patients carry."""

    level_error: Size = 0.6  # mm per axis, common to a vertebra's landmarks; of the size of their own error


@dataclass(frozen=True)
class BaselineSettings:
    """Which methods are run, and the settings of each."""

    # names of lib.baselines.methods; dsl_polish only where notebook 04 has already run
    methods: Annotated[tuple[str, ...], ONCE] = ("itk", "quasi_global", "semantic", "itk_tuned", "elastix", "greedy")
    # on real scans (`dataset`), where there are many cases
    real_methods: Annotated[tuple[str, ...], ONCE] = ("itk", "itk_tuned")
    anatomy: Experiment = "spine"  # what the anatomy-targeted methods look for; set from the case
    seed: Number = 0  # every method's random draws, with the case's own name
    workers: Number = 2  # processes side by side, one thread each
    ground_truth: GroundTruthSettings = field(default_factory=GroundTruthSettings)
    itk: MattesSettings = field(default_factory=_published)
    tuned: MattesSettings = field(default_factory=_tuned)
    elastix: ElastixSettings = field(default_factory=ElastixSettings)
    bone: BoneSettings = field(default_factory=BoneSettings)
    bone_search: BoneSearchSettings = field(default_factory=BoneSearchSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    fft_search: FftSearchSettings = field(default_factory=FftSearchSettings)
    fft_search_heart: FftSearchSettings = field(default_factory=_for_hearts)  # where `anatomy` is the heart
    quasi_global: QuasiGlobalSettings = field(default_factory=QuasiGlobalSettings)
    quasi_global_tuned: QuasiGlobalSettings = field(default_factory=_above_neighbourhood)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    polish: PolishSettings = field(default_factory=PolishSettings)
    ants: AntsSettings = field(default_factory=AntsSettings)
    greedy: GreedySettings = field(default_factory=GreedySettings)

    def of(self, name: str):
        """The settings `name`, of its anatomy where those of one differ."""
        return getattr(self, f"{name}_{self.anatomy}", getattr(self, name))

    def disagree(self) -> str:
        """Whether every method that is named can be run."""
        for name in (*self.methods, *self.real_methods):
            if registry.base(name) not in registry.runnable():
                return f"names the method {name!r}; {hint(name, registry.runnable())}"
        return ""
