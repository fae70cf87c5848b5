"""Normalisation, windows, the stream, the network, weights, training and roll-outs: small, with known answers."""

import ast
import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from lib import agent, augment, mdp, network, rigid, saliency, train
from lib.base import weights
from lib.base.errors import UserError
from lib.images import normalise, windows
from lib.images.volume import AIR, Volume
from lib.loss import q_loss, value_weight


def body(seed=0, size=48, spacing=5.0):
    """A soft ellipsoid with bright rods and dark holes, in HU."""
    g = torch.Generator().manual_seed(seed)
    v = Volume(torch.zeros(size, size, size), spacing, [-spacing * size / 2] * 3)
    p = v.points()
    hu = torch.where((p / torch.tensor([100.0, 80, 130])).square().sum(-1) < 1, 40.0, -1000.0)
    for _ in range(14):
        c = (torch.rand(3, generator=g) - 0.5) * torch.tensor([120.0, 90, 180])
        r = 8 + 14 * torch.rand(1, generator=g)
        inside = ((p - c) / r).square().sum(-1) < 1
        hu = torch.where(inside, float(torch.rand(1, generator=g)) * 700 - 100, hu)
    return v.with_array(hu)


def cone(v, radius=90.0, height=150.0):
    """The same body as a cylindrical CBCT that is not in HU."""
    p = v.points()
    inside = (p[..., 0] ** 2 + p[..., 1] ** 2 < radius**2) & (p[..., 2].abs() < height / 2)
    return v.with_array(torch.where(inside, v.array * 0.9 + 60, torch.tensor(AIR - 200)))


SETTINGS = augment.StreamSettings(
    window=24,
    coarse_voxel=8.0,
    spine_range=(25.0,) * 3 + (15.0,) * 3,
    affine=0.0,
    mirror=False,
    fixed_shift=5.0,
    fixed_turn=5.0,
)


@pytest.fixture(scope="module")
def pair():
    ct = body()
    cbct = cone(ct)
    centre = normalise.field_of_view_centre(cbct)[None]
    return augment.TrainingPair(
        "a", normalise.prepare(cbct, True, 5.0), normalise.prepare(ct, False, 5.0), np.eye(4), centre
    )


def test_field_of_view_is_the_cylinder_with_its_holes_filled():
    cbct = cone(body())
    cbct.array[24, 24, 24] = cbct.array.min()  # gas at the padding's value
    mask = normalise.field_of_view(cbct)
    assert mask[24, 24, 24] and not mask[0, 0, 0]
    assert float(mask.float().mean()) == pytest.approx(np.pi * 90**2 * 150 / 240**3, rel=0.08)


def test_one_window_of_hu_is_not_local_contrast(pair, tmp_path):
    cbct = cone(body())
    source = normalise.prepare(cbct, True, 5.0, "window")
    values, mask = normalise.normalise(cbct, True, "window")
    gain, offset = normalise.tissue_level(cbct.array[mask])
    assert torch.allclose(values[mask], ((cbct.array * gain + offset)[mask].clamp(-150, 500) - 175) / 325, atol=1e-5)
    assert not torch.equal(source.codes, pair.fixed.codes) and not values[~mask].any()
    with pytest.raises(UserError, match="local or window"):
        normalise.normalise(cbct, True, "plain")


def test_a_network_sees_what_it_was_trained_on(pair, tmp_path):
    tiny = train.TrainSettings(samples=32, batch=16, report_every=2, validation_samples=16, filters=(4, 4, 4, 4, 4))
    for contrast in ("local", "window"):
        settings = dataclasses.replace(SETTINGS, contrast=contrast)
        lesson = train.Lesson(settings, tiny, "spine", "coarse", "dsl")
        path = train.train(lesson, [pair], [pair], tmp_path / contrast, say=lambda _: None)
        made = network.Stage.load(path).source_of(cone(body()), True)
        assert torch.equal(made.codes, normalise.prepare(cone(body()), True, settings.coarse_source, contrast).codes)


def test_the_middle_of_the_field_of_view_is_found_off_centre():
    ct = body()
    p = ct.points()
    shifted = ct.with_array(
        torch.where((p[..., 0] - 20).square() + p[..., 1].square() < 60**2, ct.array, torch.tensor(-2000.0))
    )
    np.testing.assert_allclose(normalise.field_of_view_centre(shifted)[:2], [20, 0], atol=5)


@pytest.mark.parametrize("gain, offset", [(1.0, 0.0), (1.0, 1024.0), (0.00002, 0.02), (1.1, -90.0)])
def test_intensity_need_not_be_hounsfield(gain, offset):
    cbct = cone(body())
    mask = normalise.field_of_view(cbct)
    reference, _ = normalise.normalise(cbct, True)
    changed = cbct.with_array(torch.where(mask, cbct.array * gain + offset, (AIR - 200) * gain + offset))
    values, again = normalise.normalise(changed, True)
    assert (again == mask).float().mean() > 0.99
    assert float(np.corrcoef(values[mask], reference[mask])[0, 1]) > 0.95


def test_a_window_at_the_truth_shows_the_same_thing(pair):
    stream = augment.Stream(
        [pair], augment.StreamSettings(window=24, linear_share=1.0, perturb=False), "spine", "coarse"
    )
    stream.limits = (1e-6,) * 6  # co-deformed (Eq. 6) and turned, not de-aligned
    fixed, moved, valid, _ = stream.sample(8)
    assert float(np.corrcoef(fixed[valid], moved[valid])[0, 1]) > 0.85


@pytest.mark.parametrize("gain", [0.0, 0.25])
def test_an_images_own_gain_is_off_unless_asked_for(pair, gain):
    stream = augment.Stream([pair], augment.StreamSettings(window=24, gain=gain), "spine", "coarse")
    levels = stream._perturb(torch.ones(32, 24, 24, 24), noise=0.0).flatten(1).median(dim=1).values
    if gain:
        assert 0.64 < levels.min() < 0.9 < 1.1 < levels.max() < 1.36
    else:
        torch.testing.assert_close(levels, torch.ones(32))


def test_large_batches_of_noise_come_from_the_streams_seed_too(pair):
    stream = augment.Stream([pair], augment.StreamSettings(window=24), "spine", "coarse")
    images = torch.ones(16, 64, 64, 64)  # as many voxels as noise is kept of
    found = []
    for _ in range(2):
        stream.reseed(5)
        found.append(stream._perturb(images.clone(), 0.1))
    assert torch.equal(*found)


def test_a_known_residual_shifts_the_window_the_right_way(pair):
    """Moving the residual by +8 mm in x (one voxel): moved(x) = I_f(x + 8), so column i shows what column i + 1 did."""
    centre = rigid.translation(pair.anchors[0])
    bank = windows.SourceBank.of([pair.moving])
    first = torch.zeros(1, dtype=torch.long)

    def look(v):
        matrix = np.linalg.inv(pair.moving.affine) @ centre @ rigid.params_to_matrix(np.array(v, dtype=float))
        return windows.cut(bank, first, torch.tensor(matrix)[None], 24, 8.0)[0][0]

    torch.testing.assert_close(look([8, 0, 0, 0, 0, 0])[..., :-1], look([0] * 6)[..., 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(look([0, 0, 8, 0, 0, 0])[:-1], look([0] * 6)[1:], atol=1e-4, rtol=0)


def test_nearest_and_linear_agree_on_the_grid(pair):
    bank = windows.SourceBank.of([pair.fixed])
    matrix = torch.eye(4, dtype=torch.float64)[None].clone()
    matrix[0, :3, 3] = torch.tensor([20.5, 20.5, 20.5])  # the window's half voxel lands on indices
    first = torch.zeros(1, dtype=torch.long)
    near, ok = windows.cut(bank, first, matrix, 16, 1.0, linear=False)
    linear, ok2 = windows.cut(bank, first, matrix, 16, 1.0, linear=True)
    assert (ok == ok2).all()
    torch.testing.assert_close(near, linear, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_samples_and_targets_are_eq_3(pair):
    a, b = (augment.Stream([pair], SETTINGS, "spine", "coarse", "two_channel", seed=5) for _ in range(2))
    for one, two in zip(a.batch(16), b.batch(16), strict=False):
        torch.testing.assert_close(one, two)
    x, q, v = a.batch(16)
    assert x.shape == (16, 2, 24, 24, 24)
    torch.testing.assert_close(q, mdp.q_targets(rigid.params_to_matrix(v)), atol=1e-3, rtol=0)


def test_residuals_stay_in_range_and_are_denser_near_the_truth():
    limits = (30.0, 30, 150, 30, 30, 30)
    v = augment.draw_residuals(5000, limits, 0.5, torch.Generator().manual_seed(0))
    assert (v.abs() <= torch.tensor(limits)).all()
    near = (v.abs().max(dim=1).values < 10).float().mean()
    assert 0.2 < float(near) < 0.5  # uniform draws alone would put 0.0003 there


def test_a_pair_survives_the_disk(pair, tmp_path):
    pair.save(tmp_path / "p.npz")
    again = augment.TrainingPair.load(tmp_path / "p.npz")
    assert torch.equal(again.fixed.codes, pair.fixed.codes) and again.id == "a"
    (tmp_path / "p.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="not a complete training pair"):
        augment.TrainingPair.load(tmp_path / "p.npz")


def test_the_papers_network():
    net = network.ActionValueNetwork(network.NetworkSettings(64, "difference", "valid", "pool", (8, 32, 32, 128, 128)))
    assert net.dense[0].in_features == 65_536
    assert [m.out_features for m in net.modules() if isinstance(m, torch.nn.Linear)] == [512, 512, 64, 12]
    assert sum(isinstance(m, torch.nn.MaxPool3d) for m in net.modules()) == 2
    assert 34e6 < sum(p.numel() for p in net.parameters()) < 35e6
    with pytest.raises(UserError, match="too small"):
        network.ActionValueNetwork(network.NetworkSettings(16, "difference", "valid", "pool"))


def test_fused_is_the_same_function():
    net = network.ActionValueNetwork(network.NetworkSettings(24)).train()
    for _ in range(3):
        net(torch.randn(8, 1, 24, 24, 24))
    x = torch.randn(4, 1, 24, 24, 24)
    torch.testing.assert_close(network.fuse(net)(x), net.eval()(x), atol=1e-4, rtol=1e-4)


def test_a_saved_network_is_small_and_the_same_to_one_percent(tmp_path):
    net = network.ActionValueNetwork(network.NetworkSettings(32)).eval()
    network.save(net, tmp_path / "n.safetensors", {"voxel": 8})
    again, meta = network.load(tmp_path / "n.safetensors")
    x = torch.randn(4, 1, 32, 32, 32)
    with torch.no_grad():
        before, after = net(x) - 7, again(x) - 7
    assert float((before - after).norm() / before.norm()) < 0.02
    assert (tmp_path / "n.safetensors").stat().st_size < 7e6 and meta["voxel"] == "8"


def test_weights_are_safetensors_both_ways(tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "c": torch.randn(2).bfloat16(),
        "d": torch.tensor(7),
    }
    weights.save(tensors, tmp_path / "ours.safetensors", {"k": "v"})
    theirs = load_file(tmp_path / "ours.safetensors")
    save_file(tensors, tmp_path / "theirs.safetensors", {"k": "v"})
    ours, meta = weights.load(tmp_path / "theirs.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor) and torch.equal(ours[name], tensor)
    assert meta == {"k": "v"}
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "ours.safetensors").read_bytes()[:-6])
    with pytest.raises(UserError, match="not a complete"):
        weights.load(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="not one of this study's"):
        network.load(tmp_path / "ours.safetensors")


def test_the_loss_is_eq_5_and_its_split_has_the_same_minimum():
    q, y = torch.randn(5, 12), torch.randn(5, 12)
    torch.testing.assert_close(q_loss(y, q), (y - q).square().mean())
    assert float(q_loss(q, q, 0.05)) == 0 and float(q_loss(q + 1, q, 0.05)) == pytest.approx(0.05, rel=1e-4)


def test_the_loss_may_end_as_eq_5_is_printed():
    ramp = dataclasses.replace(train.TrainSettings(), value_weight=0.1, value_ramp=0.5)
    seen = [value_weight(ramp.value_weight, ramp.value_ramp, step, 8) for step in range(8)]
    assert seen == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.325, 0.55, 0.775, 1.0])
    assert value_weight(0.1, 0.0, 7, 8) == 0.1  # no ramp: as it is


def test_a_step_of_the_training_takes_the_weight_of_its_moment(pair, monkeypatch):
    settings = train.TrainSettings(samples=64, batch=16, value_ramp=1.0, validation_samples=16, precision="fp32")
    learner = train._Learner(
        train.Lesson(SETTINGS, settings, "spine", "coarse", "dsl"), [pair], [pair], torch.device("cpu")
    )
    seen = []
    monkeypatch.setattr(train, "q_loss", lambda y, q, weight: (seen.append(weight), q_loss(y, q, weight))[1])
    for step in (0, 3):
        learner.step(step)
    assert seen == pytest.approx([0.05 + 0.95 / 4, 1.0])


def test_the_papers_schedule():
    paper = train.TrainSettings(schedule="step", learning_rate=6e-5)
    assert train.learning_rate(paper, 25_000, 100_000) == pytest.approx(6e-5 * 0.49)


@pytest.fixture(scope="module")
def trained(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    settings = train.TrainSettings(samples=6400, batch=32, report_every=100, validation_samples=64, learning_rate=2e-3)
    said = []
    train.train(
        train.Lesson(SETTINGS, settings, "spine", "coarse", "dsl_two_channel"), [pair], [], folder, say=said.append
    )
    return folder, said, settings


def test_training_learns_and_says_so(trained):
    folder, said, _ = trained
    with open(folder / "dsl_two_channel_coarse_log.csv") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == train.LOG_COLUMNS
    assert float(rows[-1]["val_agreement"]) > 2.5 / 12  # chance is 1 in 12
    assert "min left" in said[-1] and not list(folder.glob("*.checkpoint"))


def test_a_finished_training_is_not_repeated(pair, trained):
    folder, _, settings = trained
    said = []
    train.train(
        train.Lesson(SETTINGS, settings, "spine", "coarse", "dsl_two_channel"), [pair], [], folder, say=said.append
    )
    assert len(said) == 1 and "already trained" in said[0]


OLD = (  # how files named what they were trained on until November 2026: the settings as Python prints them
    "StreamSettings(window=32, coarse_voxel=6.0, fine_voxel=3.0, coarse_source=4.0, fine_source=2.5, spine_range=(30.0, "
    "30.0, 150.0, 30.0, 30.0, 30.0), affine=0.12, poses_per_window=1)|TrainSettings(samples=360000, fine_samples=180000, "
    "learning_rate=0.003, filters=(16, 32, 32, 128, 128), warm_up=100)|spine|coarse|dsl_two_channel|['a', 'b']"
)


def lesson(training=(), objective=None, stage="coarse", **stream):
    """What `OLD` describes, with something changed."""
    same = dict(coarse_voxel=6.0, fine_source=2.5, poses_per_window=1)
    budget = dict(samples=360000, fine_samples=180000, warm_up=100)
    settings = augment.StreamSettings(**same | stream), train.TrainSettings(**budget | dict(training))
    return train.Lesson(*settings, "spine", stage, "dsl_two_channel", objective or train.Objective())


def test_networks_of_before_are_known_and_what_matters_tells_them_apart():
    def known(identity, other, ids=("b", "a")):
        return other.is_in({"identity": identity}, list(ids))

    for identity in (OLD, json.dumps(lesson().identity(["a", "b"]))):
        assert known(identity, lesson())
        assert known(identity, lesson(training={"report_every": 100, "validation_samples": 9}))  # the log's business
        assert known(identity, lesson(training={"fine_samples": 1}, fine_voxel=2.0)), "the other stage's business"
        for other in (
            lesson(coarse_voxel=8.0),
            lesson(affine=0.25),
            lesson(contrast="window"),
            lesson(spine_range=(30.0,) * 6),
            lesson(training={"samples": 64}),
            lesson(training={"seed": 1}),
            lesson(training={"learning_rate": 1e-3}),
            lesson(objective=train.Objective("stop 6")),
            lesson(stage="fine"),
        ):
            assert not known(identity, other)
        assert not known(identity, lesson(), ids=("a", "c"))
    assert known(OLD + "|stop 6", lesson(objective=train.Objective("stop 6")))
    for broken in ("", "nonsense", "{}", OLD.replace("affine", "no_longer_a_setting")):
        assert not known(broken, lesson())


def test_every_setting_is_in_a_networks_identity_or_named_as_idle():
    fields = {f.name for c in (augment.StreamSettings, train.TrainSettings) for f in dataclasses.fields(c)}
    by_stage = {f"{stage}_{what}" for stage in ("coarse", "fine") for what in ("voxel", "source")}
    assert fields - set(lesson().identity([])) == set(train.IDLE) | by_stage


def test_released_networks_count_as_trained(root, tmp_path):
    """The spine's coarse network in results/agents, asked for by the settings it was trained with."""
    path = root / "results" / "agents" / "spine" / "dsl_two_channel_coarse.safetensors"
    ids = ast.literal_eval(weights.load(path)[1]["identity"].split("|")[5])
    shutil.copy(path, tmp_path)
    pairs = [augment.TrainingPair(name, None, None, None, None) for name in ids]
    said = []
    assert train.train(lesson(), pairs, [], tmp_path, say=said.append) == tmp_path / path.name
    assert len(said) == 1 and "already trained" in said[0]


def test_an_interrupted_training_goes_on_to_the_same_end(pair, tmp_path):
    settings = train.TrainSettings(samples=1600, batch=16, report_every=50, validation_samples=32, precision="fp32")
    lesson = train.Lesson(SETTINGS, settings, "spine", "coarse", "dsl")
    whole = train.train(lesson, [pair], [], tmp_path / "a", say=lambda s: None)

    class Interrupt(Exception):
        pass

    original = weights.save_training
    with pytest.MonkeyPatch.context() as patch:
        clock = iter(range(0, 10_000_000, 100))  # every look at the clock is 100 s later: checkpoints at every block
        patch.setattr(train.time, "time", lambda: float(next(clock)))
        calls = []
        patch.setattr(
            weights,
            "save_training",
            lambda *a: (original(*a), calls.append(1), (_ for _ in ()).throw(Interrupt()))[0],
        )
        with pytest.raises(Interrupt):
            train.train(lesson, [pair], [], tmp_path / "b", say=lambda s: None)
    assert calls and list((tmp_path / "b").glob("*.checkpoint"))
    said = []
    resumed = train.train(lesson, [pair], [], tmp_path / "b", say=said.append)
    assert "from step 50" in said[0]
    for name, tensor in weights.load(whole)[0].items():
        torch.testing.assert_close(weights.load(resumed)[0][name], tensor, msg=name)


def test_a_misspelt_agent_or_no_pairs_is_one_sentence(pair, tmp_path):
    with pytest.raises(UserError, match="there is no agent"):
        train.Lesson(SETTINGS, train.TrainSettings(), "spine", "coarse", "dls")
    with pytest.raises(UserError, match="no training pairs"):
        train.train(train.Lesson(SETTINGS, train.TrainSettings(), "spine", "coarse", "dsl"), [], [], tmp_path)


def oracle(monkeypatch, truth, centre, stage):
    def values(self, observation):
        return mdp.q_targets(torch.tensor(rigid.centred(truth @ rigid.invert(oracle.pose), centre))[None]).float()

    def observe(self, poses):
        oracle.pose = poses[0].numpy()
        return torch.zeros(1)

    monkeypatch.setattr(agent.Stage, "outputs", values)
    monkeypatch.setattr(agent.Windows, "observe", observe)


def test_exact_values_walk_to_the_truth(pair, trained, monkeypatch):
    """With exact Q in place of the network, 200 actions undo a start; proves the direction of all that `act` does (no
    window is cut: test_augment proves those)."""
    ct = body()
    cbct, folder = cone(ct), trained[0]
    centre = normalise.field_of_view_centre(cbct)
    truth = rigid.about(rigid.params_to_matrix(np.array([3.0, -2, 4, 3, -4, 5])), centre)
    initial = rigid.about(rigid.params_to_matrix(np.array([20.0, -10, 25, 8, -12, 6])), centre) @ truth
    loaded = agent.Agent.load(folder, "dsl_two_channel")
    oracle(monkeypatch, truth, centre, loaded.coarse)
    result = agent.register(cbct, ct, initial, loaded)
    assert np.linalg.norm(rigid.state(truth, result.pose, centre)) < 1.3
    assert result.trajectory.shape == (201, 4, 4)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_trained_agent_comes_nearer(trained, adaptive):
    """One patient, learnt by heart in seconds: from 15 mm off it must come much nearer. World frames differ."""
    ct, centre_shift = body(), np.array([300.0, -50, 1000])
    cbct = cone(ct)
    cbct.origin = cbct.origin + centre_shift
    truth = rigid.translation(centre_shift)
    centre = normalise.field_of_view_centre(cbct)
    v = np.array([[10.0, 0, 10, 0, 0, 0], [-10, 8, 0, 0, 0, 8], [0, -10, -10, 5, 0, 0]])
    initial = rigid.about(rigid.params_to_matrix(v), centre) @ truth
    loaded = agent.Agent.load(trained[0], "dsl_two_channel")
    results = agent.run(loaded, [cbct] * 3, [ct] * 3, initial, agent.AgentSettings(coarse_steps=60, adaptive=adaptive))
    before = np.linalg.norm(rigid.state(truth, initial, centre), axis=1)
    after = np.array([np.linalg.norm(rigid.state(truth, r.pose, centre)) for r in results])
    assert after.mean() < 0.7 * before.mean()


def test_a_missing_agent_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no such weights"):
        agent.Agent.load(tmp_path, "dsl")
    with pytest.raises(UserError, match="there is no agent"):
        agent.Agent.load(tmp_path, "dsql")


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_path_that_goes_round_is_copied_not_computed(trained, adaptive, monkeypatch):
    ct, calls, loaded = body(), [], agent.Agent.load(trained[0], "dsl_two_channel")
    cbct = cone(ct)
    v = np.array([[0.0, 0, 0, 0, 0, 0], [4, -4, 3, 0, 2, 0], [9, -9, 3, 0, 4, 0]])
    starts = rigid.about(rigid.params_to_matrix(v), normalise.field_of_view_centre(cbct))
    settings = agent.AgentSettings(coarse_steps=120, adaptive=adaptive)

    def walk():
        done = agent.run(loaded, [cbct] * 3, [ct] * 3, starts, settings)
        return np.stack([r.coarse.poses for r in done]), np.stack([r.coarse.values for r in done])

    observe = agent.Windows.observe
    monkeypatch.setattr(agent.Windows, "observe", lambda self, poses: calls.append(len(poses)) or observe(self, poses))
    quick, n = walk(), sum(calls)
    monkeypatch.setattr(agent, "period", lambda path: np.zeros(path.shape[1], int))
    calls.clear()
    whole = walk()
    assert n < sum(calls) == 360
    assert np.allclose(quick[0], whole[0], atol=1e-4) and np.allclose(quick[1], whole[1], atol=1e-2)


def test_attention_centre_by_hand():
    cube = np.zeros((1, 16, 16, 16))
    cube[0, 12, 4, 8] = 3.0  # [k, j, i]
    cube[0, 12, 4, 9] = 1.0
    (centre,) = saliency.centres(cube, np.array([[100.0, 200, 300]]), 2.0)
    np.testing.assert_allclose(centre, [100 + (8.25 - 7.5) * 2, 200 + (4 - 7.5) * 2, 300 + (12 - 7.5) * 2])


@pytest.mark.parametrize(
    ("actions", "lengths", "same"),
    [
        ([0, 1, 0, 1, 0, 1], [1.0] * 7, True),
        ([0, 1, 0, 1, 0, 1], [4.0, 4, 4, 2, 2, 1, 1], False),  # the same place, but steps have become shorter
        (
            [4, 2, 3, 1, 0, 1],
            [1.0] * 7,
            False,
        ),  # the same place, reached by other actions: these may still double a step
        ([0, 1, 0, 1], [1.0] * 5, False),  # too few actions to tell
    ],
)
def test_an_adaptive_path_goes_round_only_where_its_lengths_do(actions, lengths, same):
    policy, alone = agent.LongSteps(agent.AgentSettings(adaptive=True), 1), np.array([0])
    policy.chosen = [torch.tensor([a]) for a in actions]
    policy.lengths = [torch.tensor([x], dtype=torch.float64) for x in lengths]
    assert policy.as_before(alone, np.array([2]))[0] == same
    assert not policy.as_before(alone, np.array([0]))[0]


def test_adaptive_lengths_by_hand():
    length, taken = torch.tensor([4.0]), []
    for action in (0, 0, 0, 0, 0, 1, 0, 1, 0):
        taken.append(torch.tensor([action]))
        length = agent.step_sizes(torch.stack(taken[-4:]), length)
    assert float(length) == 1.0
    assert float(agent.step_sizes(torch.zeros(4, 1, dtype=torch.long), torch.tensor([4.0]))) == 8.0
