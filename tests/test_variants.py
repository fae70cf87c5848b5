"""Variants: what a name changes, where it lands, and that each way to learn and to walk runs on a toy patient."""

import dataclasses

import numpy as np
import pytest
import torch
from test_agent import SETTINGS, body, cone

import lib.__main__ as door
from lib import agent, augment, mdp, network, rigid, train
from lib.base.errors import UserError
from lib.images import normalise
from lib.study import config, train_agent, variants
from lib.study import walk as rollouts

SECTIONS = ("stream", "training", "agent")
QUICK = train.TrainSettings(samples=640, batch=16, report_every=50, validation_samples=16, precision="fp32")


def named(name, profile="smoke"):
    return config.load(profile, SECTIONS, variant=name)


def changed(one, base) -> dict:
    """Fields of a section in which `one` differs from `base`, with its values."""
    return {f.name: v for f in dataclasses.fields(base) if (v := getattr(one, f.name)) != getattr(base, f.name)}


def test_each_variant_changes_what_it_says_and_nothing_else():
    base = named("reference")
    for name, one in variants.KNOWN.items():
        cfg = named(name)
        assert changed(cfg.stream, base.stream) == one.stream, name
        assert changed(cfg.agent, base.agent) == {k: v for k, v in one.agent.items() if v != getattr(base.agent, k)}, (
            name
        )
        budget = {"samples": 640} if one.stages == ("coarse",) else {}
        assert changed(cfg.training, base.training) == one.training | budget, name
        ways = [
            f for f in ("pairs", "stages", "learns", "boost", "networks") if getattr(one, f) != getattr(base.change, f)
        ]
        expected = {"reference": 0, "again": 1, "plain": 3}
        touched = len(one.stream) + len(one.agent) + len(one.training) + len(ways)
        assert touched == expected[name] if name in expected else touched >= 1, name
        assert not one.networks or variants.KNOWN[one.networks].networks == ""
    assert named("no_affine").stream == dataclasses.replace(base.stream, affine=0.0)
    assert named("one_network").training.samples == 640


def test_a_misspelt_variant_or_override_is_one_sentence():
    with pytest.raises(UserError, match="did you mean no_affine"):
        named("no_afine")
    with pytest.raises(UserError, match="spine only"):
        config.load("smoke", SECTIONS, variant="stop", experiment="heart")
    changed = {"variants": {"known": {"x": {"what": "", "networks": "nope"}}}}
    with pytest.raises(UserError, match="names 'nope' as networks of the change x; "):
        config.check({"profile": "smoke", "variant": "x", **changed}, SECTIONS)
    for known, sentence in (
        ({"x": {"what": "", "streem": {}}}, "did you mean variants.known.x.stream"),
        ({"x": {"what": "", "stream": {"afine": 0}}}, "did you mean stream.affine"),
    ):
        with pytest.raises(UserError, match=sentence):
            config.check({"profile": "smoke", "variant": "x", "variants": {"known": known}}, SECTIONS)


def test_all_variants_of_a_profile_are_checked_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "configs").mkdir()
    for change, sentence in (
        ("training: {batch: -3}", "training.batch in variants.known.x is -3; it must be 1 or more."),
        ("training: {bach: 3}", "Unknown parameter in variants.known.x: training.bach; did you mean training.batch?"),
        ("networks: nope", "variants in configs/mine.yaml names 'nope' as networks of the change x; "),
        ("stream: {window: 4}", "stream and training in configs/mine.yaml (variant x): window 4 is too small"),
    ):
        text = f"profile: mine\nvariants: {{known: {{x: {{what: y, {change}}}}}}}\n"
        (tmp_path / "configs" / "mine.yaml").write_text(text, encoding="utf-8")
        assert door.main(["check", "mine"]) == 2
        assert capsys.readouterr().err.startswith(sentence)


def test_where_a_variant_lands(monkeypatch, tmp_path):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    cfg, adaptive = named("no_affine"), named("long_steps")
    run = tmp_path / "runs/smoke/spine/split0"
    assert config.run_dir(cfg) == run / "variants/no_affine"
    assert config.agents_dir(cfg) == run / "variants/no_affine/agents"
    assert config.agents_dir(adaptive) == run / "variants/reference/agents"
    assert rollouts.lender_of(adaptive).variant == "reference" and rollouts.lender_of(cfg) is cfg
    assert variants.method(cfg, "dsl_two_channel") == "dsl_two_channel_no_affine"
    assert variants.name_of("dsl_two_channel_no_affine_coarse") == "no_affine"
    assert [variants.name_of(m) for m in ("dsl", "dsl_coarse", "dsl_two_channel_polish", "itk")] == [""] * 4


@pytest.fixture(scope="module")
def patient():
    ct = body()
    cbct = cone(ct)
    centre = normalise.field_of_view_centre(cbct)
    pair = augment.TrainingPair(
        "a", normalise.prepare(cbct, True, 5.0), normalise.prepare(ct, False, 5.0), np.eye(4), centre[None]
    )
    return ct, cbct, centre, pair


def trained(name, pair, folder, monkeypatch, samples=640):
    """The coarse network of a variant, learnt from one pair; its stage ready to walk."""
    monkeypatch.setattr(train_agent.pairs, "split_folders", lambda cfg: {"train": ["a"], "validation": []})
    monkeypatch.setattr(train_agent.pairs, "prepare_pairs", lambda folders, stage, settings: list(folders))
    monkeypatch.setattr(train_agent.pairs, "load_pairs", lambda paths: [pair] * len(paths))
    monkeypatch.setenv("RESULTS_DIR", str(folder))
    cfg = named(name)
    training = dataclasses.replace(cfg.training, **dataclasses.asdict(QUICK) | {"samples": samples})
    cfg = dataclasses.replace(cfg, stream=SETTINGS, training=training)
    cfg = dataclasses.replace(cfg, change=dataclasses.replace(cfg.change, stages=("coarse",)))
    return network.Stage.load(train_agent.agent(cfg, "dsl_two_channel", say=lambda text: None)["coarse"])


def walk(one, patient, **settings):
    """Distances before and after the coarse walk of three starts, and the results."""
    ct, cbct, centre, _ = patient
    v = np.array([[10.0, 0, 10, 0, 0, 0], [-10, 8, 0, 0, 0, 8], [0, -10, -10, 5, 0, 0]])
    initial = rigid.about(rigid.params_to_matrix(v), centre)
    chosen = agent.AgentSettings(**settings)
    results = agent.run(agent.Agent("dsl_two_channel", one), [cbct] * 3, [ct] * 3, initial, chosen)
    final = np.stack([r.pose for r in results])
    before, after = (np.linalg.norm(rigid.state(np.eye(4), p, centre), axis=1) for p in (initial, final))
    return before, after, results


def test_regression_jumps_to_what_it_says(patient, tmp_path, monkeypatch):
    one = trained("regression", patient[-1], tmp_path, monkeypatch)
    before, once, results = walk(one, patient, moves="jumps", coarse_steps=1)
    assert results[0].coarse.poses.shape == (2, 4, 4)
    assert once.mean() < 0.8 * before.mean()
    _, steps, _ = walk(one, patient, coarse_steps=20)
    assert steps.mean() < 0.8 * before.mean(), "its implied values lead the same way"


def test_an_exact_regression_arrives_in_one_jump(patient, monkeypatch):
    ct, cbct, centre, _ = patient
    start = rigid.about(rigid.params_to_matrix(np.array([20.0, -10, 25, 8, -12, 6])), centre)
    monkeypatch.setattr(agent.Windows, "observe", lambda self, poses: poses)

    def says(self, poses):
        return torch.tensor(np.stack([rigid.state(np.eye(4), p.numpy(), centre) for p in poses]))

    monkeypatch.setattr(network.Stage, "outputs", says)
    cube = dict(observation="difference", window=24, voxel=8.0, source=5.0, half=False)
    one = network.Stage(None, device=torch.device("cpu"), scale=torch.ones(6), **cube)
    done = agent.run(
        agent.Agent("dsl", one), [cbct], [ct], start[None], agent.AgentSettings(moves="jumps", coarse_steps=1)
    )
    assert np.abs(rigid.state(np.eye(4), done[0].pose, centre)).max() < 1e-4
    nearest = one.values(torch.as_tensor(start)[None]).argmax(1)
    left = torch.as_tensor(rigid.params_to_matrix(rigid.state(np.eye(4), start, centre)))[None]
    assert mdp.greedy_actions(left)[0, nearest], "and its implied best action is Eq. 2's"


def test_stop_learns_to_tell_and_stops(patient, tmp_path, monkeypatch):
    one = trained("stop", patient[-1], tmp_path, monkeypatch, samples=2400)
    stream = augment.Stream([patient[-1]], SETTINGS, "spine", "coarse", "two_channel", seed=5)
    x, _, v = stream.batch(256)
    with torch.no_grad():
        values, _, arrived = one.read(one.outputs(x))
    there = v.abs().amax(1) <= train_agent.WITHIN * SETTINGS.voxel("coarse")
    assert values.shape == (256, 12) and 10 < int(there.sum()) < 246
    assert arrived[there].mean() > arrived[~there].mean() + 0.15
    _, _, results = walk(one, patient, coarse_steps=60, stop=0.3)
    moves = [np.abs(np.diff(r.coarse.poses, axis=0)).max(axis=(1, 2)) > 1e-9 for r in results]
    assert all(not m[np.flatnonzero(~m)[0] :].any() for m in moves if not m.all()), "who has stopped stays"
    _, _, free = walk(one, patient, coarse_steps=60)
    assert sum(m.sum() for m in moves) < sum(len(r.coarse.poses) - 1 for r in free)


def test_boosting_draws_near_the_failures_of_the_reference(patient, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(train_agent, "FAILED", 0.0)  # the toy reference fails everywhere then
    monkeypatch.setattr(train_agent, "agent", _reference(train_agent.agent, patient[-1], tmp_path, monkeypatch))
    steps = named("reference").agent.coarse_steps
    cfg = dataclasses.replace(named("boosted"), stream=SETTINGS, agent=None)  # notebook 03 does not load that section
    hard = train_agent.failures(cfg, "dsl_two_channel", [patient[-1]], said.append)
    assert (
        hard.shape == (train_agent.STARTS * (steps + 1), 6)
        and f"{train_agent.STARTS} of {train_agent.STARTS}" in said[-1]
    )
    words = ([patient[-1]], SETTINGS, "spine", "coarse", "two_channel", 3)
    stream = train_agent.BoostedStream(*words, hard=torch.full((1, 6), 9.0), share=0.5)
    v = stream.residuals(4000)
    near = ((v - 9).abs() <= train_agent.JITTER).all(dim=1).float().mean()
    assert 0.45 < near < 0.55
    assert stream.batch(8)[0].shape[0] == 8
    none = train_agent.BoostedStream(*words, hard=torch.zeros(0, 6), share=0.5)
    assert torch.equal(none.residuals(50), augment.Stream(*words).residuals(50))


def _reference(original, pair, folder, monkeypatch):
    """`learn.agent` on the toy patient, whatever the profile's windows are."""

    def small(cfg, name, say=print):
        monkeypatch.setattr(train_agent, "agent", original)
        trained("reference", pair, folder, monkeypatch)
        return {"coarse": config.agents_dir(cfg) / f"{name}_coarse.safetensors"}

    return small


def test_a_network_cannot_do_what_it_was_not_trained_for(patient, tmp_path, monkeypatch):
    one = trained("reference", patient[-1], tmp_path, monkeypatch)
    for settings in ({"moves": "jumps"}, {"stop": 0.5}):
        with pytest.raises(UserError, match="trained for them"):
            walk(one, patient, coarse_steps=1, **settings)
    both = agent.Agent("dsl_two_channel", one, one)
    ct, cbct, centre, _ = patient
    given = (both, [cbct], [ct], np.eye(4)[None])
    with pytest.raises(UserError, match="agent.refine is 'object'"):
        agent.run(*given, agent.AgentSettings(coarse_steps=1, fine_steps=1, refine="object"))
    found = {}
    for refine in ("saliency", "saliency_first", "centre", "object"):
        settings = agent.AgentSettings(coarse_steps=2, fine_steps=1, refine=refine)
        found[refine] = agent.run(*given, settings, centre[None], centre[None] + 7)[0].roi
    np.testing.assert_allclose(found["centre"], centre)
    np.testing.assert_allclose(found["object"], centre + 7)
    assert not np.allclose(found["saliency"], centre)


@pytest.mark.parametrize("name", ["stop", "boosted", "long_steps"])
def test_the_future_work_rows_end_to_end(smoke_run, tmp_path, monkeypatch, name):
    """Notebooks 03 and 04 without their pictures, on the smoke run's patients: rows, paths, attention."""
    from lib import cases

    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(smoke_run.parent / "data"))
    sections = ("patients", "stream", "training", "agent", "evaluation")
    cfg = config.load("smoke", sections, variant=name)
    quick = dataclasses.replace(cfg.agent, coarse_steps=12, fine_steps=6)
    one = rollouts.trained_agent(cfg, "dsl_two_channel")
    found = rollouts.cases_of(cfg)
    results = rollouts.walk(cfg, one, found, quick)
    rollouts.write(cfg, "dsl_two_channel", found, results)
    rollouts.attention_distances(cfg, one, found, results)
    folder, method = tmp_path / f"runs/smoke/spine/split0/variants/{name}", f"dsl_two_channel_{name}"
    rows = cases.read_rows(*cases.find_rows(folder))
    assert set(rows["method"]) == {method, f"{method}_coarse"} and rows["final_error_mm"].between(0, 1000).all()
    assert (folder / f"trajectories_{method}.npz").exists() and (folder / f"attention_{method}.csv").exists()
