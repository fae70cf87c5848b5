"""Both simulated scanners beside a real cone-beam CT, in one window: `python -m lib scanners`.

The picture is for a person to judge by: does the second scanner look like a scanner, and unlike the first?
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from lib.figures import charts
from lib.figures.planes import PLANES, cut, draw, grey
from lib.images.normalise import field_of_view, tissue_level
from lib.images.volume import Volume

WINDOW = (60.0, 800.0)  # level, width, HU
EXTENT = {"axial": (420.0, 300.0), "coronal": (420.0, 220.0), "sagittal": (300.0, 220.0)}  # mm
BODIES = ("totalsegmentator_example_ct L2", "acrin_flt_breast_001 L5", "acrin_flt_breast_001 L3 70")
REAL = ("pancreatic_ct_cbct_001", "L1")


def levelled(cbct: Volume) -> Volume:
    """A CBCT whose soft tissue is at 40 HU, on whatever scale it came; -1000 outside its field of view."""
    seen = field_of_view(cbct)
    gain, offset = tissue_level(cbct.array[seen])
    return cbct.with_array((cbct.array.float() * gain + offset).where(seen, cbct.array.new_tensor(-1000.0).float()))


def sheet(rows: list[dict[str, tuple[Volume, np.ndarray]]]):
    """A figure: a row of scans each, axial, coronal and sagittal of each scan under its name, through a point of its world
    (3,). Grey values are shifted (or scaled) so that soft tissue agrees."""
    columns = max(len(row) for row in rows)
    widths = [EXTENT[plane][0] / EXTENT["axial"][1] for plane in PLANES] * columns
    fig, axes = charts.new_figure(len(rows), columns * len(PLANES), widths=widths, height=2.0)
    for panels, row in zip(axes, rows, strict=True):
        for ax in panels[len(PLANES) * len(row) :]:
            ax.set_axis_off()
        for n, (name, (volume, centre)) in enumerate(row.items()):
            flat = levelled(volume)
            for ax, plane in zip(panels[len(PLANES) * n :], PLANES, strict=False):
                image = grey(cut(flat, plane, centre, EXTENT[plane]), WINDOW)
                draw(ax, image, plane, EXTENT[plane], name if plane == "axial" else "", letters=n == 0)
    fig.suptitle(f"Soft tissue at 40 HU, then W {WINDOW[1]:.0f} L {WINDOW[0]:.0f}", fontsize=9)
    return fig


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    words = "real CTs, vertebrae and, if asked, mm of fat more: 'SCAN LEVEL [MM]'"
    parser.add_argument("--bodies", nargs="+", default=BODIES, metavar="BODY", help=words)
    parser.add_argument("--second", type=int, default=2, metavar="N", help="scans of each body by the second scanner")


def run(options: argparse.Namespace) -> None:
    """Write results/figures/scanners.png: a real CBCT and its CT's body by both scanners, then each body by both."""
    from lib.base import folders, provenance
    from lib.figures.scans import object_centre
    from lib.images.pair import trim
    from lib.patients import real

    began, (name, level) = time.time(), REAL
    pair = real.patients("spine", only=name)[0]
    rows = [{f"{name}\nREAL": (trim(pair.fixed), object_centre(pair))} | both(name, level, 0.0, options.second - 1)]
    for words in options.bodies:
        scan, level, *more = words.split()
        rows.append(both(scan, level, float(more[0]) if more else 0.0, options.second))
    path = folders.results_root() / "figures" / "scanners.png"
    charts.save(sheet(rows), path, lambda p: provenance.record(p, started=began, bodies=list(options.bodies)), dpi=90)
    print(path)


def both(name: str, level: str, fat: float, times: int) -> dict[str, tuple[Volume, np.ndarray]]:
    """One real CT's body, with `fat` mm more of it, by the first scanner and `times` by the second (test settings), each
    through the vertebra `level`. Raises UserError for an unknown scan or level."""
    from lib import rigid
    from lib.base.errors import UserError
    from lib.images.pair import shrink
    from lib.patients.habitus import heavier
    from lib.patients.rescan import SCANNER, scan_again
    from lib.patients.scanner import second
    from lib.patients.scans import manifest, marks

    scan = manifest.scan(name)
    ct, labels, _ = scan.load()
    found = {body.name: body.centre for body in marks.bodies(scan.manifest, labels)}
    if level not in found:
        raise UserError(f"{name} has no vertebra {level}; choose one of: {', '.join(found)}.")
    small, made = shrink(ct, 2.0, False), {}
    small = heavier(small, fat) if fat else small
    for n in range(times + 1):
        settings, label = (SCANNER, "first scanner") if n == 0 else (second.TEST, f"second scanner, {n}")
        cbct, truth, _, _ = scan_again(small, labels, None, found[level], np.random.default_rng(n), settings)
        title = f"{name} {level}{f' + {fat:.0f} mm of fat' if fat else ''}\n{label}"
        made[title] = (cbct, rigid.apply(truth, found[level][None])[0])
    return made
