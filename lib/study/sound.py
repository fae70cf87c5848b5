"""Is a study sound? What the types of its file (`lib.study.schema`) alone do not say: names, what goes together, and what its
changes lay over a profile."""

from __future__ import annotations

from collections.abc import Mapping

from lib.base import limits
from lib.base.errors import UserError
from lib.base.limits import RANGES as HALF_RANGES
from lib.base.sections import build, hint, known

SOURCES = ("real_scans", "split", "untested", "new", "real_pairs")
# lib.patients.scanner: conebeam, which also scans training patients; second, with its test or its tuning settings.
SCANNERS = ("first", "second", "tuning")
OBJECTS = ("stent", "table")  # that a drawn spine patient may have or lack: lib.patients.spine.devices
RANGES = ("near", "full")  # those of the profile: transfer.near, and the paper's


def check(study, source: str) -> None:
    """A `lib.study.schema.Study` from the file `source`. Raises UserError."""
    prefix = f"{source}: "

    def one_of(words, allowed, kind):
        known(words, allowed, f"{kind} in {source}")

    if study.planar and (study.recipe or study.command):
        raise UserError(f"{prefix}planar stands in place of recipe and command.")
    if study.cost < 0:
        raise UserError(f"{prefix}cost is {study.cost:g} minutes; it cannot be less than none.")
    _check_changes(study, source)
    _check_lists(study, source)
    for block in study.cases:
        one_of([block.source], SOURCES, "source of cases")
        one_of(block.experiments, ("spine", "heart"), "experiment")
        one_of([block.scanner], SCANNERS, "scanner")
        if block.splits != (0,) and block.source != "split":
            raise UserError(f"{prefix}splits are of the source split; {block.source} has none.")
        other = block.source != "real_scans" or any(one.files for one in block.conditions.values())
        if block.scanner != "first" and other:
            raise UserError(f"{prefix}the second scanner scans the source real_scans; its conditions name no files.")
        for reach, half in block.ranges.items():
            if not half:
                one_of([reach], RANGES, "range")
            elif not HALF_RANGES.holds(half):
                raise UserError(f"{prefix}the range {reach} is {list(half)}; it needs {HALF_RANGES.words}.")
        if (block.fat_mm or block.every_level) and other:
            raise UserError(
                f"{prefix}fat_mm and every_level are of the source real_scans, whose conditions name no files."
            )
        if not 0 <= block.fat_mm <= 120:
            raise UserError(f"{prefix}fat_mm is {block.fat_mm:g}; it must be from 0 to 120 mm.")
        if block.source == "real_pairs" and not block.scans:
            raise UserError(f"{prefix}the source real_pairs needs scans, the collections whose pairs are tried.")
        if block.starts < 0 or not 0 <= (block.min_overlap or 0) < 1:
            raise UserError(f"{prefix}starts must be a positive number, and min_overlap a share from 0 to less than 1.")
        for name, found in block.conditions.items():
            _check_condition(block, found, f"{prefix}the condition {name}")
    _check_semantic(study, prefix)
    methods = [m for some in (study.methods, *(block.methods for block in study.cases)) for m in some]
    for method in methods:
        one_of([method.stage], ("coarse", "both"), "stage")
        one_of([method.steps], ("one", "adaptive", "third"), "steps")
        one_of([method.refine], ("saliency", "object"), "refine")
        one_of([method.then], ("", "polish") if method.walks() else ("",), f"word after `then` of {method.method}")
    for recipe in study.recipe:
        one_of(recipe.experiments, ("spine", "heart"), "experiment")
        if any(n < 1 for n in recipe.samples):
            raise UserError(f"{prefix}samples: {min(recipe.samples)} is no number of training samples; give 1 or more.")
        if recipe.samples and not any(m.walks() and m.stage == "coarse" for m in methods):
            raise UserError(
                f"{prefix}with samples the coarse network is trained alone; its method is {{method: agent, stage: coarse}}."
            )
        if recipe.seeds != (0,) and "released" in recipe.population:
            raise UserError(f"{prefix}seeds are of agents that are trained; the released one is what it is.")
    if any(m.trained() for m in study.methods) and not study.recipe:
        raise UserError(f"{prefix}an agent is tried but there is no recipe; say recipe: {{population: released}}.")


def _check_condition(block, found, prefix: str) -> None:
    """Whether a condition can be had in a block of cases. Raises UserError, whose sentence begins with `prefix`."""
    if block.source != "real_scans" and (found.simulates() or found.files):
        raise UserError(f"{prefix} scans a body again; that needs the source real_scans.")
    drawn = block.source in ("split", "untested") and block.experiments == ("spine",)
    if found.objects and (not drawn or not set(found.objects) <= set(OBJECTS)):
        raise UserError(f"{prefix}: objects are stent and table, of drawn spine patients.")
    if len(found.view) != 2 or not all(0 < x <= 1 for x in found.view) or len(found.turn) != 3:
        raise UserError(f"{prefix}: view is two shares up to 1, turn three angles.")
    if len(found.ct_axes) != 3 or not all(found.ct_axes):
        raise UserError(f"{prefix}: ct_axes is three factors, none of them 0.")


def _check_semantic(study, prefix: str) -> None:
    """Raises UserError where semantic registration would have nobody to learn from."""
    for block in study.cases:
        if block.source != "untested" and any(m.method == "semantic" for m in block.methods or study.methods):
            raise UserError(
                f"{prefix}semantic registration learns here from half of the patients of the source untested."
            )


def _check_changes(study, source: str) -> None:
    """What its changes, and the settings of its baselines, lay over sections of a profile. Raises UserError."""
    for name, change in [item for recipe in study.recipe for item in recipe.changes.items()]:
        for found in limits.wrong(change, f"changes.{name}"):
            raise UserError(f"{found.name} in {source} {found.says}")
        if change.boost and not study.command:
            raise UserError(f"{source}: boost of the change {name} is of the study variants alone.")
        for section in ("patients", "stream", "training", "agent"):
            if values := getattr(change, section):
                build(section, values, f"{source} (change {name})", alone=True)
    if says := misnamed(study.changes()):
        raise UserError(f"{source} {says}")
    for method in [m for some in (study.methods, *(block.methods for block in study.cases)) for m in some]:
        if method.settings:
            build("baselines", method.settings, f"{source} (method {method.change or method.method})", alone=True)


def _check_lists(study, source: str) -> None:
    """Lists that must name something, or there would be nothing to do. Raises UserError."""
    made = ("population", "experiments", "agents", "seeds")
    places = [("", study, ("cases",)), *(("recipe.", one, made) for one in study.recipe)]
    places += [("cases.", one, ("experiments", "splits", "ranges", "conditions")) for one in study.cases]
    places += [("planar.", study.planar, ("curves", "seeds", "sizes"))] if study.planar else []
    for where, part, names in places:
        for name in names:
            if not getattr(part, name):
                raise UserError(f"{source}: {where}{name} is empty; name at least one, or leave it out.")
    if not all(block.methods or study.methods for block in study.cases):
        raise UserError(f"{source}: methods is empty; name at least one, such as agent or itk_tuned.")


def misnamed(changes: Mapping) -> str:
    """What is wrong with the other changes that changes name; empty where nothing is."""
    for name, change in changes.items():
        for word in ("networks", "against"):
            other = getattr(change, word)
            if other and other not in changes:
                return f"names {other!r} as {word} of the change {name}; {hint(other, changes)}"
        lender = change.networks and changes[change.networks].networks
        if lender:
            return f"names {change.networks!r} as networks of the change {name}, which borrows them; name {lender!r}."
    return ""
