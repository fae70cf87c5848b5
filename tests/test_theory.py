"""Appendix A in numbers (lib.theory), on fewer states than notebook 10."""

import numpy as np
import pytest
import torch

from lib import mdp, theory


def test_walking_gives_eq_3_and_appendix_a_where_the_last_step_does_not_overshoot():
    v = theory.random_states(500, 0, 0.5, 40)
    distance = np.linalg.norm(v, axis=1)
    walked = theory.value_by_walking(v)
    assert np.allclose(walked, theory.value_exact(distance), atol=1e-9)
    exact = distance % 1 <= 0.5
    assert np.allclose(walked[exact], theory.value_in_steps(distance)[exact], atol=1e-9)
    assert (theory.value_in_steps(distance)[~exact] > walked[~exact]).all()


def test_unit_steps_have_length_one_and_earn_at_most_one():
    v = theory.random_states(200, 1)
    steps = theory.random_steps(v, 50, 2)
    assert np.allclose(np.linalg.norm(steps, axis=-1), 1, atol=1e-12)
    reward = np.linalg.norm(v, axis=1)[:, None] - np.linalg.norm(v[:, None] + steps, axis=-1)
    assert reward.max() <= 1 + 1e-12


def test_proposition_holds_as_appendix_a_counts():
    assert theory.gain(theory.random_states(500, 3, 0.5, 20), theory.value_in_steps).max() <= 1e-9


def test_proposition_to_the_letter_fails_near_the_goal_only():
    near, far = theory.random_states(500, 4, 0.5, 7), theory.random_states(500, 5, 7.5, 170)
    gain = theory.gain(near, theory.value_exact)
    assert 0.2 < (gain > 1e-9).mean() < 0.6 and gain.max() < 0.4 + 1e-9
    assert (gain[np.linalg.norm(near, axis=1) % 1 <= 0.5] <= 1e-9).all()
    assert theory.gain(far, theory.value_exact).max() <= 1e-9


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_the_bonus_threshold_is_sharp(gamma):
    threshold = gamma / (1 - gamma)
    v = theory.random_states(1000, 6, 1.5, 4)
    below = (theory.gain(v, theory.value_in_steps, 400, gamma, 0.9 * threshold) > 1e-9).mean()
    at = (theory.gain(v, theory.value_in_steps, 400, gamma, threshold) > 1e-9).mean()
    level = theory.steps_to_goal(np.linalg.norm(v, axis=1) - 1)
    assert at == 0 and below == pytest.approx(theory.predicted_share(level, gamma, 0.9 * threshold).mean(), abs=0.02)


def test_closed_form_falls_to_its_limit():
    values = mdp.closed_form(np.arange(1.0, 100))
    assert values[0] == pytest.approx(11) and (np.diff(values) < 0).all() and values[-1] == pytest.approx(10, abs=1e-3)


def test_twelve_actions_prefer_another_one_rarely():
    found = theory.discrete_gain(theory.discrete_states(300, 7), horizon=100)
    assert (found["gain"] > 1e-6).mean() < 0.1 and found["gain"].max() < 0.1


def test_both_policies_arrive():
    states = theory.discrete_states(10, 8, (3,) * 6)
    for policy in ("greedy", "q"):
        walk = theory.follow(states, policy, horizon=30)
        assert (walk["distance"] < 1.3).all() and (walk["steps"] < 30).all()
    assert torch.equal(states, theory.discrete_states(10, 8, (3,) * 6))
