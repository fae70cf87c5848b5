"""The 2-D problem of Figure 4: pairs, world, exact values, learners, resuming."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import mdp, rigid
from lib.base.errors import UserError
from lib.images.normalise import OUTSIDE
from lib.images.volume import Volume
from lib.study.planar import compare, learn, runs
from lib.study.planar import pairs as planar_pairs
from lib.study.planar import world as drl_world
from lib.study.planar.network import PlanarNetwork

SMALL = compare.DrlSettings(
    steps=4, evaluate_every=2, batch=4, actions=5, warmup=16, explore=8, memory=40, target_every=2, episode=3
)


def poses(n, seed=0, spread=(30.0, 30.0, 30.0)):
    return drl_world.draw(n, spread, torch.Generator().manual_seed(seed))


def test_starts_are_states_within_the_range():
    v = drl_world.parameters(poses(2000))
    assert (v.abs() <= 30 + 1e-9).all() and (v.abs().max(dim=0).values > 29).all()
    near = drl_world.parameters(drl_world.draw(2000, (30,) * 3, torch.Generator().manual_seed(1), near_share=0.5))
    assert 0.4 < (near.abs() <= 5).all(dim=1).float().mean() < 0.6


def test_an_action_is_one_step_and_its_opposite_undoes_it():
    start = poses(50)
    for action in range(6):
        there = drl_world.act(start, torch.full((50,), action))
        back = drl_world.act(there, torch.full((50,), action ^ 1))
        assert torch.allclose(back, start, atol=1e-12)
        assert (drl_world.distance(start) - drl_world.distance(there)).abs().max() <= 1 + 1e-9


def test_exact_q_is_the_discounted_reward_of_the_greedy_walk():
    start = poses(12, seed=3, spread=(4.0, 4.0, 4.0))
    every = torch.as_tensor(drl_world.ACTIONS)
    for action in range(6):
        here, value, discount = drl_world.act(start, torch.full((12,), action)), torch.zeros(12).double(), 1.0
        value = drl_world.distance(start) - drl_world.distance(here)
        done = drl_world.arrived(here)
        value = value + mdp.BONUS * done
        while not done.all():
            discount *= mdp.GAMMA
            after = every @ here[:, None]
            best = drl_world.distance(after).argmin(dim=1)
            there = after[torch.arange(12), best]
            reward = drl_world.distance(here) - drl_world.distance(there) + mdp.BONUS * drl_world.arrived(there)
            value = value + discount * torch.where(done, 0.0, reward)
            here = torch.where(done[:, None, None], here, there)
            done = done | drl_world.arrived(here)
        assert torch.allclose(value, drl_world.exact_q(start)[:, action], atol=1e-3)


def test_following_exact_q_arrives():
    here = poses(40, seed=5)
    for _ in range(110):
        moved = drl_world.act(here, drl_world.exact_q(here).argmax(dim=1))
        here = torch.where(drl_world.arrived(here)[:, None, None], here, moved)
    assert drl_world.displacement(here, 90.0).max() < 2.0


def test_displacement_of_a_shift_is_its_length():
    shift = torch.as_tensor(rigid.params_to_matrix_2d([[3.0, 4.0, 0.0]]))
    assert drl_world.displacement(shift, 90.0).item() == pytest.approx(5.0)


def test_aligned_pairs_differ_by_nothing_and_moved_ones_do(pairs):
    rows, there = torch.arange(6), torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
    assert planar_pairs.render(pairs, rows, there).abs().max() < 1e-5
    away = planar_pairs.render(pairs, rows, poses(6))
    assert away.shape == (6, 1, 36, 36) and away.abs().mean() > 0.01
    assert planar_pairs.render(pairs, rows, there, "two_channel").shape == (6, 2, 36, 36)


def test_a_pose_moves_the_image_the_way_it_says(pairs):
    shift = torch.as_tensor(rigid.params_to_matrix_2d([[10.0, -5.0, 0.0]]))  # 2 pixels right, 1 up
    moved = planar_pairs.render(pairs, torch.tensor([0]), shift, "two_channel")[0, 1]
    still = pairs.moving[0, 9:-9, 9:-9].float() / 127
    assert torch.allclose(moved[:-1, 2:], still[1:, :-2], atol=1e-4)


def test_no_data_is_no_difference(pairs):
    blind = planar_pairs.Pairs(pairs.fixed.clone(), pairs.moving, pairs.patient, pairs.spacing)
    blind.fixed[:, :, :10] = OUTSIDE
    seen = planar_pairs.render(blind, torch.arange(6), poses(6))
    assert (seen[..., :10] == 0).all()


def test_planes_cut_from_a_patient_are_aligned(tmp_path):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(50, 50, 50)).astype(np.float32))
    body = torch.nn.functional.avg_pool3d(x[None, None], 7, 1, 3)[0, 0]
    fixed = Volume(40 + 4000 * body, 6.0, (-150.0,) * 3)
    truth = rigid.params_to_matrix([20.0, -10.0, 5.0, 0.0, 0.0, 0.0])
    moving = Volume(fixed.array, 6.0, fixed.origin - [20.0, -10.0, 5.0])
    patient = SimpleNamespace(id="p", fixed=fixed, moving=moving, truth=truth)
    cut = planar_pairs.cut([patient, lambda: patient], 5, 24, 6.0, seed=0)
    assert len(cut) == 5 and cut.patient.tolist() == [0, 0, 0, 1, 1]
    there = torch.eye(3, dtype=torch.float64).repeat(5, 1, 1)
    off = torch.as_tensor(rigid.params_to_matrix_2d([[12.0, 0.0, 0.0]])).repeat(5, 1, 1)
    aligned, away = (planar_pairs.render(cut, torch.arange(5), p).abs().mean() for p in (there, off))
    assert aligned < 0.2 * away
    planar_pairs.save(cut, tmp_path / "pairs.npz")
    again = planar_pairs.load(tmp_path / "pairs.npz")
    assert torch.equal(again.moving, cut.moving) and again.spacing == 6.0
    with pytest.raises(UserError):
        planar_pairs.load(tmp_path / "none.npz")


def test_the_world_pays_eq_4_and_begins_again():
    world = drl_world.World(3, 20, (3.0, 3.0, 3.0), torch.Generator().manual_seed(0), episode=4)
    ends = 0
    for _ in range(60):
        best = drl_world.exact_q(world.poses).argmax(dim=1)
        moved = world.step(best)
        reward = drl_world.distance(moved["before"]) - drl_world.distance(moved["after"])
        assert torch.allclose(moved["rewards"], reward + mdp.BONUS * moved["ends"])
        assert torch.equal(moved["ends"], drl_world.arrived(moved["after"]))
        assert (world.ages < 4).all() and (drl_world.parameters(world.poses).abs() <= 4 + 1e-9).all()
        ends += int(moved["ends"].sum())
    assert ends > 100


def test_the_memory_is_a_ring_of_poses():
    memory = compare.Replay(10, "cpu")
    world = drl_world.World(3, 4, (30.0,) * 3, torch.Generator().manual_seed(0), episode=9)
    for _ in range(4):
        moved = world.step(torch.zeros(4, dtype=torch.long))
        memory.add(learn.n_step([moved]))
    assert memory.size == 10 and memory.head == 6
    batch = memory.sample(32, torch.Generator().manual_seed(0))
    after = drl_world.act(batch["before"], batch["actions"])
    assert torch.allclose(after, batch["after"], atol=1e-4)


def test_nothing_is_expected_after_an_end(pairs):
    job = compare.learner("dqn", pairs, SMALL, 0)
    job.step(0.0)
    batch = job.memory.sample(8, job.generator)
    assert torch.allclose(job.targets(batch | {"ends": torch.ones(8).bool()}), batch["rewards"])
    going = job.targets(batch | {"ends": torch.zeros(8).bool()})
    assert (going - batch["rewards"] > 1).all()


def test_our_loss_counts_what_all_actions_share_less(pairs):
    losses = {}
    for method in ("dsl", "dsl_weighted"):
        job = compare.learner(method, pairs, SMALL, 0)
        losses[method] = job.step(0.0)  # equal weights and samples
    assert losses["dsl_weighted"] < losses["dsl"]
    none = dataclasses.replace(SMALL, value_weight=1.0)
    assert compare.learner("dsl_weighted", pairs, none, 0).step(0.0) == losses["dsl"]


def test_refining_begins_with_dsls_weights_and_its_policy(pairs):
    job = compare.learner("dsl_refined", pairs, SMALL, 0)
    job.step(0.5)
    assert job.job is job.teacher and job.student.count == 0
    taught = {k: v.clone() for k, v in job.network.state_dict().items()}
    job.student._see = lambda rows, poses: (_ for _ in ()).throw(InterruptedError)  # before it looks at anything
    with pytest.raises(InterruptedError):
        job.step(0.75)
    assert job.job is job.student and job.base_rate == SMALL.learning_rate
    assert all(torch.equal(taught[k], v) for k, v in job.student.target.state_dict().items())
    assert job.student.first_epsilon == SMALL.epsilon_end, "it explores with the policy, not at random"


def test_dqn_learns_a_tiny_world(pairs):
    """Starts within 6 mm on six pairs: after some hundred steps its greedy action is right far more often."""
    ranges = (6.0, 6.0, 1.0)
    settings = dataclasses.replace(
        SMALL,
        steps=250,
        batch=32,
        explore=32,
        warmup=512,
        memory=20000,
        target_every=25,
        episode=20,
        ranges=ranges,
        observation="two_channel",
        dqn_learning_rate=5e-4,
    )
    job = compare.learner("double_dqn", pairs, settings, 0)
    there = poses(128, 9, ranges)
    rows, exact = torch.arange(128) % 6, drl_world.exact_q(there)

    def measure():
        with torch.no_grad():
            values = job.network.eval()(planar_pairs.render(pairs, rows, there, "two_channel"))
        right = exact >= exact.max(1, keepdim=True).values - 0.3
        return float(right[torch.arange(128), values.argmax(1)].float().mean())

    before = measure()
    for step in range(settings.steps):
        job.step(step / settings.steps)
    assert measure() > max(before + 0.25, 0.55)


def test_double_dqn_values_the_online_choice(pairs):
    job = compare.learner("double_dqn", pairs, SMALL, 0)
    job.step(0.0)
    for p in job.network.head.parameters():
        torch.nn.init.normal_(p)
    plain = compare.learner("dqn", pairs, SMALL, 0)
    plain.network, plain.target = job.network, job.target
    batch = job.memory.sample(16, job.generator) | {"ends": torch.zeros(16).bool()}
    double, usual = job.targets(batch), plain.targets(batch)
    assert (double <= usual + 1e-5).all() and (double < usual - 1e-3).any(), "the same would be plain DQN"


def test_methods_start_from_the_same_weights(pairs):
    nets = [compare.learner(m, pairs, SMALL, 7).network.state_dict() for m in compare.METHODS]
    assert all(torch.equal(nets[0][k], other[k]) for other in nets[1:] for k in nets[0])


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_network_shapes(norm):
    network = PlanarNetwork(36, "two_channel", norm).eval()
    assert network(torch.zeros(2, 2, 36, 36)).shape == (2, 6)
    assert sum(p.numel() for p in PlanarNetwork(128).parameters()) > 10_000_000
    with pytest.raises(UserError, match="36"):
        PlanarNetwork(30)


@pytest.mark.parametrize("method", compare.METHODS)
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(pairs, tmp_path, method):
    quiet = {"say": lambda text: None}
    whole = compare.train(method, 0, pairs, pairs, SMALL, **quiet)

    class Interrupt(Exception):
        pass

    def stop(text):
        raise Interrupt

    path = tmp_path / "job.pt"
    with pytest.raises(Interrupt):
        compare.train(method, 0, pairs, pairs, SMALL, path, say=stop)
    resumed = compare.train(method, 0, pairs, pairs, SMALL, path, **quiet)
    for a, b in zip(whole, resumed, strict=True):
        assert a["step"] == b["step"] and a["success"] == b["success"] and a["median_mm"] == b["median_mm"]
        assert a["images"] == b["images"]
        assert a["loss"] == b["loss"] or a["step"] == 0
    assert len(compare.train(method, 0, pairs, pairs, SMALL, path, **quiet)) == len(whole)  # finished: not repeated


def test_a_walk_that_goes_to_and_fro_is_left_standing(pairs):
    class Shaky(torch.nn.Module):
        def forward(self, seen):
            self.calls = getattr(self, "calls", 0) + 1
            return torch.eye(6)[self.calls % 2].repeat(len(seen), 1)

    network = Shaky()
    settings = dataclasses.replace(SMALL, actions=50)
    end = compare.walk(network, pairs, poses(6), settings)
    assert network.calls < 5
    assert (drl_world.parameters(end) - drl_world.parameters(poses(6))).abs().max() < 1.1


def test_curves_and_their_file(pairs, tmp_path):
    paths = {side: tmp_path / f"{side}.npz" for side in ("train", "test")}
    for path in paths.values():
        planar_pairs.save(pairs, path)
    settings = dataclasses.replace(SMALL, methods=("dsl", "dqn_two_channel"), spacing=5.0)
    rows = runs.run(paths, settings, tmp_path, say=lambda text: None)
    runs.write_curves(rows, tmp_path / "fig4.csv")
    curves = pd.read_csv(tmp_path / "fig4.csv")
    assert list(curves.columns) == list(runs.COLUMNS)
    assert set(curves["method"]) == set(settings.methods) and curves["step"].max() == 4
    table = runs.summary(curves)
    assert len(table) == 2 and table["success"].between(0, 1).all()
    with pytest.raises(UserError, match="sarsa"):
        runs.run(paths, dataclasses.replace(settings, methods=("sarsa",)), tmp_path)


def test_the_papers_two_terabytes():
    sizes = runs.replay_bytes()
    assert sizes["state and next state, float32"] == pytest.approx(2.1e12, rel=0.01)
    assert min(sizes.values()) < 1e8
