"""One self-contained HTML page about a registration: verdict, overlays before and after, difference, path, numbers."""

from __future__ import annotations

import base64
import html
import io as streams

from lib import rigid
from lib.base.errors import UserError
from lib.base.provenance import atomic
from lib.figures import paths, volumes
from lib.figures.paths import PARAMETERS
from lib.figures.planes import HALF, LEVEL, PLANES, WIDTH, matched, through_bone
from lib.images.volume import Volume
from lib.registration.trust import margins

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "img{width:100%}figure{margin:1em 0}figcaption{color:#555;font-size:.9em}"
    "td:last-child{white-space:nowrap}table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left}"
    ".verdict{padding:.8em 1.2em;border-left:.5em solid;font-size:1.15em}"
    ".good{border-color:#0a6b2d;background:#eaf6ee}.bad{border-color:#a3161f;background:#fbebec}"
    ".orange{color:#b35900}.blue{color:#0047b3}"
)


def write_html(path, fixed: Volume, moving: Volume, result, names: tuple[str, str] = ("CBCT", "CT")) -> None:
    """Write the report of a `register.Registration` (fixed and moving as registered); all pictures inside the file.

    Raises UserError if the file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg", force=False)
    before, after, centre = result.before, result.pose, shown_at(moving, result)
    window = f"Window {WIDTH:.0f}, level {LEVEL:.0f} HU"
    pictures = (
        (
            "Before and after",
            "Before: how the scans came, in their own coordinates (or at the initial transform that was given). "
            "<b class='orange'>CBCT orange</b>, <b class='blue'>CT blue</b>, grey where they agree; dark grey where only "
            f"one has data. Look along the edges of bone, or of the heart: double contours are misalignment. {window}; the CBCT, "
            "which is seldom in HU, is scaled to look alike. R right, L left, A anterior, P posterior, H head, F feet.",
            volumes.close(fixed, moving, {"before": before, "after": after}, centre),
        ),
        (
            "Difference",
            "CBCT minus CT within the window: mid-grey where they agree, white where the CBCT is brighter; black where only one has data.",
            difference_figure(fixed, moving, {"before": before, "after": after}, centre),
        ),
        ("Each image alone", "The CBCT, and the CT where it ended.", volumes.alone(fixed, moving, after, centre)),
    )
    if len(result.ends):  # an agent walked
        words = f"Solid: millimetres; dashed: degrees. {result.note}".strip()
        pictures += (("The agent's path", html.escape(words), path_figure(result)),)
    shown = "".join(
        f"<h2>{title}</h2><figure>{_png(figure, title)}<figcaption>{text}</figcaption></figure>"
        for title, text, figure in pictures
    )
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Registration report</title>"
        f"<style>{STYLE}</style></head><body><h1>Registration of {html.escape(names[1])} to "
        f"{html.escape(names[0])}</h1>{_verdict(result.trust)}{_table(result)}{shown}"
        f"<p>The transform maps fixed (CBCT) to moving (CT) points, LPS millimetres. "
        "Research software, not a medical device: look at the overlay before you believe it.</p></body></html>"
    )
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(page.encode("utf-8", "replace"))  # a file's name may hold other bytes
    except OSError as error:
        raise UserError(f"{path}: the report could not be written ({error.strerror}).") from None


def shown_at(moving: Volume, result):
    """(3,) where the pictures of a `register.Registration` are cut, fixed world: through the spine where it is one, else
    through the middle of the field of view."""
    return through_bone(moving, result.pose, result.centre) if result.experiment == "spine" else result.centre


def difference_figure(fixed: Volume, moving: Volume, poses: dict, centre):
    """CBCT minus CT near `centre`, three planes, a column for each named pose (4, 4, moving -> fixed)."""
    windows = matched(fixed, moving, [*poses.values()][-1], centre)
    return volumes.difference(fixed, moving, poses, "", windows, centre, PLANES, half=HALF, inches=3.2)


def path_figure(result):
    """The six parameters along the path (about the fixed centre, zero at the start) and the action-value margin."""
    start = rigid.invert(result.trajectory[0])
    moved = rigid.matrix_to_params(rigid.centred(result.trajectory @ start, result.centre))
    return paths.walk(moved, margins(result.values))


def _verdict(trust) -> str:
    """The verdict in a coloured box, each reason on a line of its own."""
    if not trust.reasons:
        return f"<p class='verdict good'><b>{html.escape(trust.sentence())}.</b></p>"
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in trust.reasons)
    return f"<div class='verdict bad'><b>{html.escape(trust.verdict)}</b><ul>{reasons}</ul></div>"


def _table(result) -> str:
    """Pose and the numbers behind the verdict, each beside its limit."""
    params = rigid.matrix_to_params(rigid.centred(result.pose, result.centre))
    pose = ", ".join(f"{n} {v:+.1f}" for n, v in zip(PARAMETERS, params, strict=True))
    rows = [
        ("CT to CBCT about the CBCT's centre (mm, degrees)", pose, ""),
        ("couch", result.couch.sentence() if result.couch else "", ""),
        *result.trust.lines(len(result.ends)),
        ("seconds", ", ".join(f"{k} {v:g}" for k, v in result.seconds.items()), ""),
    ]
    rows += [("note", note, "") for note in (result.note, *result.notes) if note]
    cells = "".join(
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td><td>{html.escape(w)}</td></tr>" for k, v, w in rows
    )
    return f"<table><tr><th></th><th></th><th>good if</th></tr>{cells}</table>"


def _png(figure, title: str) -> str:
    import matplotlib.pyplot as plt

    stream = streams.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    plt.close(figure)
    data = base64.b64encode(stream.getvalue()).decode()
    return f"<img alt='{html.escape(title)}' src='data:image/png;base64,{data}'>"
