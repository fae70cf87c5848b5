"""The paper's own terms: what `configs/paper.yaml` says, and what the code does with it."""

import dataclasses
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from lib import augment, cases, network, rigid, train
from lib.images import windows
from lib.images.volume import Volume
from lib.loss import q_loss
from lib.study import config, train_agent
from lib.study.planar import learn
from lib.study.planar.settings import DrlSettings


@pytest.fixture(scope="module")
def paper():
    return config.load("paper")


def lesson(cfg, experiment="spine", stage="coarse", agent="dsl"):
    mine = train_agent.own(cfg, agent)
    return train.Lesson(mine.stream, mine.training, experiment, stage, agent)


@pytest.fixture
def stream(paper):
    """The paper's stream of a stage, on one small pair of uniform images."""

    def make(stage, **changes):
        settings = dataclasses.replace(train_agent.own(paper, "dsl").stream, window=24, **changes)
        source = augment.Source(torch.full((40, 40, 40), 64, dtype=torch.int8), np.diag([8.0, 8, 8, 1]))
        centre = np.full((1, 3), 160.0)
        pair = augment.TrainingPair("a", source, source, np.eye(4), centre)
        return augment.Stream([pair], settings, "spine", stage)

    return make


def test_population_splits_and_starts(paper):
    assert (paper.patients.spine, paper.patients.heart) == (82 + 5, 92 + 5)
    assert (paper.patients.n_splits, paper.patients.n_test, paper.patients.n_validation) == (5, 5, 0)
    assert paper.evaluation.n_starts == 10
    assert (paper.agent.coarse_steps, paper.agent.fine_steps, paper.agent.refine) == (200, 100, "saliency")
    assert not paper.agent.adaptive and paper.agent.moves == "steps" and not paper.agent.stop


def test_every_pair_is_augmented_64000_times(paper):
    spine, heart = lesson(paper), lesson(paper, "heart")
    assert spine.steps * paper.training.batch == 64_000 * 82
    assert heart.steps * paper.training.batch == 64_000 * 92
    assert lesson(paper, stage="fine").steps * 32 == 64_000 * 82
    assert paper.training.batch == 32


def test_no_start_is_drawn_again(paper):
    """The first draw stands, although half of them leave the CT: 150 mm of 80."""
    volume = Volume(torch.zeros(20, 40, 40), 4.0, [0.0, 0, 0])
    patient = type("P", (), {"id": "p", "fixed": volume, "moving": volume, "truth": np.eye(4), "experiment": "spine"})
    ranges = np.array(paper.evaluation.ranges("spine"))
    found = cases.starts(patient, 10, ranges, 1, paper.evaluation.min_overlap)
    drawn = np.random.default_rng([1, zlib.crc32(b"p")]).uniform(-1, 1, (10, 6)) * ranges
    assert np.abs(drawn[:, 2]).max() > 80  # at least one shares nothing with the CT
    for case, v in zip(found, drawn, strict=True):
        np.testing.assert_allclose(case.initial, rigid.about(rigid.params_to_matrix(v), case.centre), atol=1e-9)


@pytest.mark.parametrize("stage, limits", [("coarse", (30, 30, 150, 30, 30, 30)), ("fine", (5,) * 6)])
def test_residuals_are_those_of_starts_in_the_papers_range_and_stay_where_they_fall(stream, stage, limits):
    """Test starts are drawn as de-alignments (`cases.starts`); a residual is the inverse of one."""
    drawn = stream(stage, dense_share=0.0)
    residuals = rigid.params_to_matrix(drawn.residuals(4000).double())
    v = rigid.matrix_to_params(rigid.invert(residuals)).float()
    assert (v.abs().amax(dim=0) <= torch.tensor(limits) + 1e-3).all()
    assert (v.abs().amax(dim=0) > 0.97 * torch.tensor(limits)).all()
    which, frames = drawn._fixed_frames(4000)
    far = v.clone()
    far[:, 2] = 150.0  # past the CT's end
    assert torch.equal(drawn.bounded(far.clone(), which, frames), far)


@pytest.mark.parametrize("stage, limit", [("coarse", 30.0), ("fine", 5.0)])
def test_the_fixed_image_moves_as_far_as_the_paper_says_and_is_never_mirrored(stream, stage, limit):
    _, frames = stream(stage)._fixed_frames(3000)
    assert (torch.linalg.det(frames[:, :3, :3]) > 0).all()
    _, rigid_only = stream(stage, affine=0.0)._fixed_frames(3000)
    rigid_only[:, :3, 3] -= 160.0
    v = torch.as_tensor(rigid.matrix_to_params(rigid_only.numpy()))
    assert (v.abs().amax(dim=0) <= limit + 1e-6).all() and (v.abs().amax(dim=0) > 0.95 * limit).all()


def test_co_deformation_is_a_quarter(stream):
    _, frames = stream("coarse", fixed_shift=0.0, fixed_turn=0.0)._fixed_frames(3000)
    shear = frames[:, :3, :3] - torch.eye(3, dtype=torch.float64)
    assert 0.249 < float(shear.abs().max()) <= 0.25


def test_nothing_is_added_to_the_images(stream):
    """Uniform images stay uniform: no noise, no blobs; and their ends are not cropped."""
    drawn = stream("coarse", affine=0.0, fixed_shift=0.0, fixed_turn=0.0)
    fixed, moved, valid, _ = drawn.sample(16)
    assert fixed.unique().tolist() == pytest.approx([64 / 127])
    inside = moved[moved > 0]
    assert len(inside) and torch.allclose(inside, torch.tensor(64 / 127))
    assert valid.any(dim=(1, 2, 3)).sum() > 8
    assert all(end is None for end in drawn._plan(4)[3])


def test_windows_are_trilinear_in_training_and_in_walking(paper, stream, tmp_path, monkeypatch):
    asked = []
    plain = windows.cut

    def spy(bank, which, matrices, window, voxel, linear=True, z_range=None):
        asked.append(linear)
        return plain(bank, which, matrices, window, voxel, linear, z_range)

    monkeypatch.setattr(augment, "cut", spy)
    for stage in ("coarse", "fine"):
        stream(stage).sample(4)
        mine = lesson(paper, stage=stage)
        small = dataclasses.replace(mine.shape, window=24, padding="mixed", stem="strided", filters=(2,) * 5)
        path = tmp_path / f"{stage}.safetensors"
        network.save(network.ActionValueNetwork(small), path, train._metadata(mine))
        assert network.Stage.load(path).linear
    assert asked and all(asked)


def test_the_network_is_the_papers(paper):
    model = network.ActionValueNetwork(lesson(paper).shape)
    layers = list(model.modules())
    convolutions = [m for m in layers if isinstance(m, nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [8, 32, 32, 128, 128]
    assert {c.kernel_size for c in convolutions} == {(3, 3, 3)} and convolutions[0].in_channels == 1
    assert sum(isinstance(m, nn.MaxPool3d) for m in layers) == 2
    dense = [m for m in layers if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in dense] == [(65_536, 512), (512, 512), (512, 64), (64, 12)]
    assert sum(isinstance(m, nn.ReLU) for m in layers) == sum("BatchNorm" in type(m).__name__ for m in layers) == 8


def test_optimiser_rate_and_loss_are_the_papers(paper):
    t = lesson(paper).training
    found = train._optimiser(nn.Linear(2, 2), t)
    assert isinstance(found, torch.optim.RMSprop) and found.defaults["momentum"] == 0 == found.defaults["weight_decay"]
    rates = [train.learning_rate(t, step, 164_000) for step in (0, 9_999, 10_000, 25_000, 163_999)]
    assert rates == pytest.approx([6e-5, 6e-5, 0.7 * 6e-5, 0.7**2 * 6e-5, 0.7**16 * 6e-5])
    prediction, target = torch.randn(5, 12), torch.randn(5, 12)
    plain = (prediction - target).square().mean()  # Eq. 5, as printed
    assert float(q_loss(prediction, target, t.value_weight)) == pytest.approx(float(plain), rel=1e-5)


def test_one_set_of_parameters_for_both_experiments_and_stages(paper):
    """But for the ranges, which the paper gives for each, and the number of pairs."""
    spine, heart, fine = lesson(paper), lesson(paper, "heart"), lesson(paper, stage="fine")
    assert spine.shape == heart.shape == fine.shape
    different = {k for k, v in spine.identity([]).items() if v != heart.identity([])[k]}
    assert different == {"experiment", "range", "steps"}


def test_dqn_and_dsl_share_the_learning_rate(paper):
    assert paper.drl.learning_rate == paper.drl.dqn_learning_rate == 6e-5
    assert (paper.drl.pairs, paper.drl.window, paper.drl.batch) == (2000, 128, 32)
    assert paper.drl.steps * paper.drl.batch == 2_000_000 == paper.drl.steps * paper.drl.explore
    assert paper.drl.ranges == (30.0, 30.0, 30.0) and paper.drl.memory == 1_000_000
    settings = DrlSettings(learning_rate=paper.drl.learning_rate, dqn_learning_rate=paper.drl.dqn_learning_rate)
    few = [torch.zeros(1, 4, 4)]

    class Few(list):
        fixed = few[0]

    taught = learn.Supervised(Few(few), settings, nn.Linear(2, 2), torch.Generator())
    assert taught.optimiser.param_groups[0]["lr"] == 6e-5
    alone = learn.DeepQ(Few(few), settings, nn.Linear(2, 2), torch.Generator(), double=False)
    assert alone.optimiser.param_groups[0]["lr"] == 6e-5


def test_the_agent_of_cpu_that_stands_for_the_papers_adds_nothing_either():
    """`dsl` of `make reproduce` has no perturbation and no mirroring, and walks as it trained; `dsl_two_channel` has ours."""
    cfg = config.load("cpu")
    theirs, ours = train_agent.own(cfg, "dsl").stream, train_agent.own(cfg, "dsl_two_channel").stream
    assert (theirs.perturb, theirs.mirror, theirs.interpolation) == (False, False, "nearest")
    assert ours == cfg.stream and ours.perturb and ours.mirror
    with_change = dataclasses.replace(cfg, change=type("C", (), {"stream": {"mirror": True}, "training": {}}))
    assert train_agent.own(with_change, "dsl").stream.mirror
