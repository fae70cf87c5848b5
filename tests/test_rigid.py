"""Eq. 1, the distance D and the actions: known answers and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import rigid

six = st.tuples(*[st.floats(-150, 150)] * 3, st.floats(-80, 80), st.floats(-80, 80), st.floats(-80, 80)).map(np.array)
point = st.tuples(*[st.floats(-200, 200)] * 3).map(np.array)


def test_each_factor_is_the_papers():
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    rx = [[1, 0, 0], [0, c, -s], [0, s, c]]
    ry = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    rz = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    for axis, expected in enumerate((rx, ry, rz)):
        params = np.zeros(6)
        params[3 + axis] = 30
        np.testing.assert_allclose(rigid.params_to_matrix(params)[:3, :3], expected, atol=1e-12)


def test_order_is_translation_then_x_y_z():
    v = np.array([1.0, 2, 3, 10, 20, 30])
    single = [rigid.params_to_matrix(v * mask) for mask in np.vstack([[1, 1, 1, 0, 0, 0], np.eye(6)[3:]])]
    np.testing.assert_allclose(rigid.params_to_matrix(v), single[0] @ single[1] @ single[2] @ single[3], atol=1e-12)


@given(six)
def test_parameters_round_trip(v):
    np.testing.assert_allclose(rigid.matrix_to_params(rigid.params_to_matrix(v)), v, atol=1e-8)


@given(six)
def test_torch_and_numpy_agree(v):
    a = rigid.params_to_matrix(v)
    b = rigid.params_to_matrix(torch.tensor(v))
    np.testing.assert_allclose(a, b.numpy(), atol=1e-12)
    np.testing.assert_allclose(rigid.matrix_to_params(b).numpy(), v, atol=1e-8)


@given(six, point)
def test_inverse_undoes(v, p):
    matrix = rigid.params_to_matrix(v)
    there = rigid.apply(matrix, p[None])
    np.testing.assert_allclose(rigid.apply(rigid.invert(matrix), there)[0], p, atol=1e-9)


@given(six, point)
def test_about_keeps_the_centre_and_centred_undoes_it(v, c):
    turn = np.concatenate([np.zeros(3), v[3:]])
    np.testing.assert_allclose(rigid.apply(rigid.about(rigid.params_to_matrix(turn), c), c[None])[0], c, atol=1e-9)
    matrix = rigid.params_to_matrix(v)
    np.testing.assert_allclose(rigid.centred(rigid.about(matrix, c), c), matrix, atol=1e-9)


def test_distance_by_hand():
    truth = np.eye(4)
    pose = rigid.params_to_matrix(np.array([3.0, 0, -4, 0, 0, 0]))
    assert rigid.distance(truth, pose) == pytest.approx(5)  # T_g T^-1 = shift by (-3, 0, 4)
    pose = rigid.params_to_matrix(np.array([0.0, 0, 0, 0, 0, 12]))
    assert rigid.distance(truth, pose) == pytest.approx(12)


@settings(max_examples=50)
@given(six)
def test_a_translation_action_moves_v_by_one_in_the_residuals_frame(v):
    """V a^-1: without rotation left, exactly one element of v changes, by exactly one."""
    truth = rigid.params_to_matrix(np.concatenate([v[:3], np.zeros(3)]))
    for index, action in enumerate(rigid.actions()[:6]):
        change = rigid.matrix_to_params(truth @ rigid.invert(action)) - rigid.matrix_to_params(truth)
        expected = np.zeros(6)
        expected[index // 2] = -1 if index % 2 == 0 else 1
        np.testing.assert_allclose(change, expected, atol=1e-9)


@given(six)
def test_a_rotation_action_never_changes_the_length_of_t(v):
    residual = rigid.params_to_matrix(v)
    for action in rigid.actions()[6:]:
        after = residual @ rigid.invert(action)
        np.testing.assert_allclose(after[:3, 3], residual[:3, 3], atol=1e-12)


def test_actions_cancel_in_pairs():
    a = rigid.actions()
    np.testing.assert_allclose(a[0::2] @ a[1::2], np.broadcast_to(np.eye(4), (6, 4, 4)), atol=1e-12)
    assert len(rigid.ACTION_NAMES) == 12


@given(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(-170, 170)).map(np.array))
def test_planar_round_trip(v):
    np.testing.assert_allclose(rigid.matrix_to_params_2d(rigid.params_to_matrix_2d(v)), v, atol=1e-9)
