"""Errors and statistics with answers worked by hand."""

import numpy as np
import pytest
from trimesh.triangles import closest_point

from lib import metrics, rigid
from lib.base.errors import UserError
from lib.metrics import capture_range


def cube(half=10.0):
    """A closed cube of 12 triangles with corners at +-half."""
    vertices = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * half
    faces = np.array(
        [
            [0, 1, 3],
            [0, 3, 2],
            [4, 6, 7],
            [4, 7, 5],
            [0, 4, 5],
            [0, 5, 1],
            [2, 3, 7],
            [2, 7, 6],
            [0, 2, 6],
            [0, 6, 4],
            [1, 5, 7],
            [1, 7, 3],
        ]
    )
    return vertices, faces


def test_tre_of_a_translation_is_its_length():
    points = np.random.default_rng(0).normal(size=(32, 3)) * 50
    assert metrics.tre(points, np.eye(4), points) == 0
    assert metrics.tre(points, rigid.translation([3, 4, 0]), points) == pytest.approx(5)


def test_tre_of_a_quarter_turn():
    points = np.array([[10.0, 0, 0], [0, 0, 5]])  # the first moves by 10 sqrt 2, the second lies on the axis
    turn = rigid.params_to_matrix(np.array([0, 0, 0, 0, 0, 90.0]))
    assert metrics.tre(points, turn, points) == pytest.approx(10 * np.sqrt(2) / 2)


def test_tre_without_landmarks_says_so():
    with pytest.raises(UserError, match="no landmarks"):
        metrics.tre(None, np.eye(4), None)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.2, 0.2, 3), 3),
        ((0.2, 0.2, 0), 0),
        ((-3, -4, 0), 5),
        ((0.5, -2, 0), 2),
        ((1, 1, 0), 0.5**0.5),
        ((4, 0, 4), 5),
    ],
)
def test_the_distance_to_a_triangles_face_edges_and_corners(point, expected):
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert metrics.surface_distance([point], triangle, [[0, 1, 2]]) == pytest.approx([expected])


def test_point_to_a_degenerate_triangle_is_the_distance_to_its_edge():
    triangle = np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]])
    assert metrics.surface_distance([[1.0, 3, 0]], triangle, [[0, 1, 2]]) == pytest.approx([3])


def test_surface_distance_equals_brute_force():
    rng = np.random.default_rng(1)
    vertices, faces = rng.normal(size=(200, 3)) * 30, rng.integers(0, 200, size=(500, 3))
    points = rng.normal(size=(100, 3)) * 40
    nearest = [closest_point(vertices[faces], np.tile(point, (len(faces), 1))) for point in points]
    brute = [np.linalg.norm(n - point, axis=1).min() for n, point in zip(nearest, points, strict=True)]
    assert np.allclose(metrics.surface_distance(points, vertices, faces), brute)


def test_mme_of_a_cube():
    mesh = cube()
    assert metrics.mme(mesh, np.eye(4), mesh) == pytest.approx(0)
    # Shifted 4 mm in x: four corners leave the cube by 4 mm, the other four slide along its faces.
    assert metrics.mme(mesh, rigid.translation([4, 0, 0]), mesh) == pytest.approx(2)
    # Scaled: every corner of the larger cube is 5 sqrt 3 from the corner of the smaller.
    assert metrics.mme(cube(15), np.eye(4), mesh) == pytest.approx(5 * 3**0.5)


def test_success_at_the_papers_limits():
    assert metrics.success([10.0, 10.01], "spine").tolist() == [True, False]
    assert metrics.success([20.0, 20.01], "heart").tolist() == [True, False]


SPINE = np.array([[0.0, 0, 100 - 25 * i] for i in range(9)])  # 25 mm apart, head (z = 100) to foot (z = -100)


@pytest.mark.parametrize(("shift", "expected"), [(0, 0), (-25, 1), (27, -1), (-50, 2), (12.5, 0), (300, 0)])
def test_whole_vertebrae(shift, expected):
    pose = rigid.translation([0, 0, shift])
    assert metrics.vertebrae_off(SPINE, np.eye(4), pose, np.zeros(3)) == expected


def test_whole_vertebrae_not_when_turned_away():
    pose = rigid.params_to_matrix(np.array([30.0, 0, -25, 0, 0, 0]))
    assert metrics.vertebrae_off(SPINE, np.eye(4), pose, np.zeros(3)) == 0


def test_classify():
    near, turned = np.array([10.0] * 6), np.array([5.0, 0, 0, 0, 20, 0])
    assert metrics.classify(True, False, near) == ""
    assert metrics.classify(False, True, near) == "refused"
    assert metrics.classify(False, False, near, vertebrae=-1) == "vertebra"
    assert metrics.classify(False, False, turned) == "rotated"
    assert metrics.classify(False, False, turned * [12, 1, 1, 1, 1, 1]) == "lost"


def test_percentiles_keep_failures():
    assert metrics.percentiles([1, 2, 3, 4, 100]).tolist() == pytest.approx([1.4, 3, 61.6])


def test_wilson_known_value():
    assert metrics.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert metrics.wilson(0, 0)[0] != metrics.wilson(0, 0)[0]


def test_clustered_interval_is_wider_than_the_naive_one():
    ok = np.repeat([1, 1, 0, 1, 0], 10)  # five patients, ten identical starts each
    clustered = metrics.success_interval(ok, np.repeat(list("abcde"), 10))
    naive = metrics.success_interval(ok, np.arange(50))
    assert clustered[1] - clustered[0] > 2 * (naive[1] - naive[0])
    assert clustered[0] <= 0.6 <= clustered[1]


def test_perfect_success_is_not_claimed_certain():
    low, high = metrics.success_interval(np.ones(50), np.repeat(list("abcde"), 10))
    t = 2.7764  # Student's, four degrees of freedom
    assert high == pytest.approx(1) and low == pytest.approx(metrics.wilson(5, 5, t)[0], abs=1e-4) and low < 0.5


def test_a_rate_counts_as_many_cases_as_would_vary_as_much():
    ok = np.concatenate([[1.0] * right + [0.0] * (10 - right) for right in (10, 9, 8, 7, 6)])
    # Sums left over: 2, 1, 0, -1, -2; variance of the mean 5/4 * 10 / 50**2 = 0.005; 0.8 * 0.2 / 0.005 = 32 cases.
    expected = metrics.wilson(0.8 * 32, 32, 2.7764)
    assert metrics.success_interval(ok, np.repeat(list("abcde"), 10)) == pytest.approx(expected, abs=1e-4)
    single = metrics.success_interval([1, 0, 1], list("aaa"))
    assert single == pytest.approx(metrics.wilson(2 / 3, 1)), "one patient counts as one case"


@pytest.mark.parametrize("patients, rate", [(3, 0.6), (5, 0.85), (12, 0.95), (25, 0.85)])
def test_95_in_100_intervals_hold_the_truth(patients, rate):
    """Patients who differ (beta-distributed, correlation 0.3 of a patient's ten starts), as few as some tables have."""
    rng, held, who = np.random.default_rng(1), 0, np.repeat(np.arange(patients), 10)
    for _ in range(300):
        own = rng.beta(rate * 7 / 3, (1 - rate) * 7 / 3, patients)
        low, high = metrics.success_interval(rng.random(10 * patients) < np.repeat(own, 10), who)
        held += low <= rate <= high
    assert held / 300 > 0.925


def test_paired():
    out = metrics.paired([1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], list("aabbcc"))
    assert out["difference"] == pytest.approx(0.5) and out["n"] == 6
    half = 4.3027 * 0.5 / 3**0.5  # Student's t of three patients, whose means 1, 0.5, 0 have the deviation 0.5
    assert (out["low"], out["high"]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
    same = metrics.paired([1, 0], [1, 0], list("ab"))
    assert same["difference"] == 0 and np.isnan([same["low"], same["high"]]).all(), "nothing differs: nothing is known"


def test_a_median_of_few_patients_has_a_wider_interval():
    assert metrics.expanded(25) == pytest.approx((1.76, 98.24), abs=0.02)  # Student's t in place of the normal
    assert metrics.expanded(5) == pytest.approx((0.096, 99.904), abs=0.005)
    values = np.arange(25.0)
    (low, high), (least, most) = (metrics.bootstrap(values, clusters) for clusters in (values, values // 5))
    assert 2 <= least < 4 < low < 12 < high < 20 < most <= 22


def test_capture_range_and_whether_it_is_the_whole():
    assert capture_range([10, 20, 30], [1, 1, 1]) == (30.0, True)
    assert capture_range([30, 10, 20], [0, 1, 1]) == (20.0, False)
    assert capture_range([10, 20], [0, 1]) == (0.0, False)
    ok = np.ones(100)
    ok[3] = 0  # 97 % up to the fourth and all later: an early failure does not end the range
    assert capture_range(np.arange(100), ok) == (99.0, True)
