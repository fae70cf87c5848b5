"""Planes are cut where the anatomy is, with the right side on the right, and figures are drawn and saved."""

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lib import rigid
from lib.figures import attention, charts, paths, planes, shown, volumes
from lib.images.volume import Volume
from lib.registration import report


def marked(axis: int, spacing=(1.0, 2.0, 4.0)) -> Volume:
    """40 x 20 x 10 voxels around the origin (40 mm each way), 1000 HU on the positive side of `axis`."""
    size = (40, 20, 10)
    volume = Volume(torch.zeros(*size[::-1]), spacing, [-(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True)])
    return volume.with_array((volume.points()[..., axis] > 0).float() * 1000)


@pytest.mark.parametrize(
    ("axis", "plane", "side"),
    [
        (0, "axial", "right"),
        (1, "axial", "bottom"),
        (0, "coronal", "right"),
        (2, "coronal", "top"),
        (1, "sagittal", "right"),
        (2, "sagittal", "top"),
    ],
)
def test_left_posterior_and_superior_are_where_a_radiologist_expects_them(axis, plane, side):
    image = volumes.cut(marked(axis), plane, np.zeros(3), (30, 30))
    halves = {"right": image[:, 20:], "left": image[:, :10], "top": image[:10], "bottom": image[20:]}
    opposite = {"right": "left", "top": "bottom", "bottom": "top"}[side]
    assert halves[side].min() > 999 and halves[opposite].max() < 1


def test_extents_are_millimetres_whatever_the_voxels():
    shapes = planes.extents(marked(0))
    assert shapes == [(43, 42), (43, 40)] or all(abs(w - 40) <= 4 and abs(h - 40) <= 4 for w, h in shapes)


def test_an_oblique_grid_is_cut_in_world_coordinates():
    turn = rigid.params_to_matrix(np.array([0, 0, 0, 0, 0, 90.0]))[:3, :3]
    volume = marked(0)
    turned = Volume(volume.array, volume.spacing, turn @ volume.origin, turn)  # the first axis points back
    image = volumes.cut(turned, "axial", np.zeros(3), (20, 20))
    assert image[12:].min() > 999 and image[:8].max() < 1


def test_a_pose_moves_the_picture():
    image = volumes.cut(marked(0), "axial", np.zeros(3), (20, 20), pose=rigid.translation([5, 0, 0]))
    assert image[:, 9].max() < 1 and image[:, 16].min() > 999  # the edge went 5 mm to the left


def test_frame_finds_the_field_of_view_in_its_padding():
    volume = Volume(torch.full((30, 40, 50), -1000.0), 2.0)
    volume.array[10:20, 5:15, 20:40] = 0
    centre, shapes = volumes.frame(volume)
    assert centre.tolist() == [59, 19, 29] and shapes == [(40, 20), (40, 20), (20, 20)]
    empty = Volume(torch.full((4, 4, 4), -1000.0))
    assert volumes.frame(empty)[1] == planes.extents(empty) and volumes.window_of(empty) == volumes.CT_WINDOW


def test_window():
    assert volumes.grey(np.array([-300.0, 150, 600, 9000]), (150, 900)).tolist() == [0, 0.5, 1, 1]


def test_mesh_outline_is_where_the_plane_cuts():
    vertices, faces = np.array([[0.0, 0, -1], [0, 0, 1], [10, 0, 1]]), np.array([[0, 1, 2]])
    _, axes = volumes.new_figure()
    volumes._outline(axes[0][0], (vertices, faces), np.eye(4), "axial", np.zeros(3), "y")
    segment = axes[0][0].collections[0].get_segments()[0]
    assert sorted(segment[:, 0].tolist()) == [0, 5]


def test_volume_figures_state_window_scale_and_sides():
    fixed, moving = marked(0), marked(1)
    pose = {"before": rigid.translation([5, 0, 0]), "after": np.eye(4)}
    mesh = (np.array([[0.0, 0, -9], [0, 9, 9], [9, 0, 9]]), np.array([[0, 1, 2]]))
    figures = [
        volumes.three_planes(moving, "CT", points=np.zeros((2, 3))),
        volumes.overlay(fixed, moving, pose),
        volumes.difference(fixed, moving, pose, meshes=(mesh, mesh)),
        volumes.contact_sheet([fixed, moving], window=volumes.CT_WINDOW),
        volumes.alone(fixed, moving, np.eye(4), np.zeros(3)),
        volumes.close(fixed, moving, pose, np.zeros(3)),
        attention.saliency(fixed, fixed, np.zeros(3), 10, target=np.zeros(3)),
    ]
    for figure in figures:
        words = [t.get_text() for ax in figure.axes for t in ax.texts]
        assert "mm" in " ".join(words) and {"H", "F"} < set(words) and " W " in figure.get_suptitle()


def scanned(axis: int) -> Volume:
    """`marked` as a CBCT: its lowest value, here in one corner, means that nothing was seen there."""
    volume = marked(axis)
    volume.array[0, 0, 0] = -1000
    return volume


def shown_pixels(figure, ax, size: int = 80) -> np.ndarray:
    """What a panel of a figure looks like, (size, size, 3) 0..255, its letters and scale bar taken off."""
    for mark in [*ax.texts, *ax.lines]:
        mark.remove()
    figure.set_layout_engine("none")
    figure.set_size_inches(1, 1)
    ax.set_position([0, 0, 1, 1])
    for other in figure.axes:
        other.set_visible(other is ax)
    figure.suptitle("")
    figure.set_dpi(size)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float)


def test_the_left_half_of_the_body_is_drawn_under_the_letter_l():
    """1000 HU on the patient's left: white on the picture's right side in an axial plane, where its letter stands."""
    figure = volumes.three_planes(marked(0), centre=np.zeros(3), extent=[(30, 30)] * 3)
    ax = figure.axes[0]
    places = {t.get_text(): t.get_position()[0] for t in ax.texts}
    assert places["R"] < 0.1 and places["L"] > 0.9
    picture = shown_pixels(figure, ax)
    assert picture[30:50, 55:75].min() > 240  # 1000 HU is above the window
    dark = picture[30:50, 5:25]  # 0 HU in level 150, width 900: a third of the way to white
    assert abs(dark.mean() - 255 / 3) < 4 and np.ptp(dark) < 8


def test_overlay_is_orange_blue_and_grey_where_the_images_agree():
    """CBCT bright on the patient's left, CT bright behind: the four quarters of an axial plane."""
    figure = volumes.overlay(
        *(scanned(0), marked(1), np.eye(4)),
        windows=((500, 1000), (500, 1000)),
        centre=np.zeros(3),
        planes=("axial",),
        half=15,
    )
    picture = shown_pixels(figure, figure.axes[0]) / 255
    quarters = {"CBCT alone": (20, 60), "CT alone": (60, 20), "both": (60, 60)}
    found = {name: picture[row, column] for name, (row, column) in quarters.items()}
    assert found["both"].min() > 0.95
    assert np.allclose(found["CBCT alone"], (1, 0.5, 0), atol=0.03)
    assert np.allclose(found["CT alone"], (0, 0.5, 1), atol=0.03)


def test_difference_is_mid_grey_where_nothing_differs():
    pose = {"right": np.eye(4), "off by 8 mm": rigid.translation([8, 0, 0])}
    figure = volumes.difference(*(scanned(0), marked(0), pose), windows=((500, 1000),) * 2, centre=np.zeros(3), half=15)
    images = [ax.images[0].get_array() for ax in figure.axes]
    assert np.allclose(images[0], 0.5)
    edge = images[1][15]  # the CT's edge went 8 mm to the patient's left: there the CBCT is brighter
    assert np.allclose(edge[16:22], 1.0) and np.allclose(edge[25:29], 0.5) and np.allclose(edge[5:13], 0.5)


def test_matched_windows_make_a_scaled_cbct_look_like_the_ct():
    """The same body in other numbers: whatever a CBCT's scale, both are seen in the same grey."""
    array = torch.zeros(40, 40, 40)
    array[10:30, 10:30, 10:30] = torch.linspace(-100, 300, 20)[:, None, None]
    ct = Volume(torch.where(array == 0, -1000.0, array), 4.0, [-78.0] * 3)
    cbct = ct.with_array(ct.array * 0.5 + 300)
    windows = planes.matched(cbct, ct, np.eye(4), np.zeros(3))
    still, moved = planes.both(cbct, ct, np.eye(4), "axial", np.zeros(3), (60, 60))
    grey = [planes.grey(image, window) for image, window in zip((still, moved), windows, strict=True)]
    assert np.abs(grey[0] - grey[1]).max() < 0.02 and 0.05 < grey[1].mean() < 0.95


def test_difference_pictures_name_methods_as_tables_do():
    figure = volumes.difference(marked(0), marked(1), {"start": np.eye(4), "itk_tuned": np.eye(4)})
    assert [ax.get_title() for ax in figure.axes[:2]] == ["start", "ITK, tuned"]


def test_tables_name_methods_and_units():
    rows = pd.DataFrame(
        {
            "method": ["dsl", "my_method"],
            "experiment": ["spine", "heart"],
            "n": [3, 4],
            "success": [0.456, np.nan],
            "p50": [1.25, np.nan],
            "gas": [True, False],
        }
    )
    heads = {"method": "method", "experiment": "experiment", "n": "cases", "success": "success (%)"}
    made = shown.table(rows, heads | {"p50": "median (mm)", "gas": "gas"})
    assert made.index.tolist() == ["Agent (difference image)", "my method"]
    assert made.iloc[0].tolist() == ["E1 spine", "3", "46", "1.2", "yes"]
    assert made.iloc[1].tolist() == ["E2 heart", "4", "–", "–", "no"]
    head = made.to_html().split("<tbody>")[0]
    assert head.count("<tr") == 1 and "<th>method</th>" in head, "one line of heads"
    long = shown.table(pd.DataFrame({"a": range(100)}).assign(b="x"), {"a": "a", "b": "b"})
    assert long._repr_html_().count("<tr") == 101, "none is left out"
    level = shown.table(pd.DataFrame({"a": ["x", "y"], "hu": [-97.2, 0.866]}), {"a": "", "hu": "level (HU)"}, digits=2)
    assert level["level (HU)"].tolist() == ["-97.2", "0.87"], "no more digits than one believes"


def test_charts_and_saving(tmp_path):
    log = pd.DataFrame({"step": [0, 1], "samples": [0, 64], "loss": [2.0, 1], "val_loss": [2.0, np.nan]})
    log["val_agreement"], log["seconds"] = [0.1, np.nan], 1.0
    curves = pd.DataFrame({"method": "dsl", "seed": [0, 0, 1, 1], "step": [0, 9, 0, 9], "success": [0, 1, 0, 0.5]})
    for name, figure in {
        "path": paths.trajectories(np.zeros((5, 6)), switch=3),
        "learning": paths.learning_curves({"coarse": log}),
        "fig4": charts.fig4(curves, "success on 100 cases"),
    }.items():
        path = charts.save(figure, tmp_path / "deep" / f"{name}.png", {"cfg": None})
        pixels = plt.imread(path)
        assert pixels.shape[0] > 300 and np.ptp(pixels[..., :3].mean(axis=(0, 2))) > 0.02  # drawn, and not one colour
        assert json.loads((path.parent / f"{name}.png.provenance.json").read_text())["artefact"] == f"{name}.png"
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def case_rows(method, errors, experiment="spine"):
    limit = 10 if experiment == "spine" else 20
    return pd.DataFrame(
        {
            "experiment": experiment,
            "method": method,
            "case": ["a", "b"] * (len(errors) // 2),
            "initial_error_mm": np.linspace(20, 120, len(errors)),
            "final_error_mm": errors,
            "success": np.array(errors) <= limit,
        }
    )


def test_capture_range_has_a_panel_a_method():
    names = ("initial", "ground_truth", "itk", "semantic", "semantic_5", "dsl", "dsl_coarse", "greedy")
    rows = pd.concat([case_rows(m, [1, 1, 1, 1, 1, 99, 99, 99, 99, 99]) for m in names])
    figure = charts.capture_range(rows, "spine", columns=2)
    titles = [ax.get_title().split("\n") for ax in figure.axes if ax.get_title()]
    assert [t[0] for t in titles] == [charts.label(m) for m in ("itk", "semantic", "dsl", "greedy")]
    assert {t[1] for t in titles} == {"95 % up to 64 mm"}
    assert charts.capture_range(rows, "heart") is None


def test_error_curves_name_the_best_first():
    rows = pd.concat([case_rows("itk", [50, 60]), case_rows("dsl", [1, 2]), case_rows("elastix", [1, 30])])
    left, right = charts.error_curves(rows).axes
    words = [text.get_text() for text in left.get_legend().get_texts()]
    assert words == ["100 %  Agent (difference image)", "0 %  ITK, as published"]
    assert [t.get_text() for t in right.get_legend().get_texts()][1] == "50 %  elastix"


def test_unknown_methods_get_a_name_and_a_colour():
    assert charts.label("my_method") == "my method" and charts.colour("my_method") == charts.colour("my_method")


def test_planes_of_a_spine_are_cut_through_its_bone():
    """A bone 30 mm to the left and 50 mm behind the middle, moved by the pose; with little bone the middle stays."""
    size = 80
    ct = Volume(torch.full((size, size, size), 40.0), 4.0, np.full(3, -2.0 * size))
    points = ct.points()
    rod = (points[..., 0] - 30).square() + (points[..., 1] - 50).square() < 15**2
    moved = rigid.translation([10.0, -20.0, 0.0])
    bony = ct.with_array(torch.where(rod, torch.tensor(700.0), ct.array))
    np.testing.assert_allclose(planes.through_bone(bony, moved, [0.0, 0.0, 5.0]), [40.0, 30.0, 5.0], atol=3.0)
    np.testing.assert_array_equal(planes.through_bone(ct, moved, [0.0, 0.0, 5.0]), [0.0, 0.0, 5.0])
    found = SimpleNamespace(pose=moved, centre=np.array([0.0, 0.0, 5.0]), experiment="spine")
    assert report.shown_at(bony, found)[1] > 25
    found.experiment = "heart"
    np.testing.assert_array_equal(report.shown_at(bony, found), found.centre)
