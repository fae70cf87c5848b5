"""A study is a file: what may stand in it, the loop that runs it, and its rows."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lib.__main__ as door
from lib import metrics, rigid
from lib.base.errors import UserError
from lib.cases import Result
from lib.figures import scans
from lib.registration import judged
from lib.study import (
    batch,
    command,
    failures,
    listing,
    methods,
    pairs,
    populations,
    recipes,
    rows,
    run,
    schema,
    sources,
)

HEAD = "name: x\nquestion: Why?\n"
CHANGE = "recipe: {population: fresh, changes: {a: {what: b, %s}}}\n"


def written(folder, text, name="x"):
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return schema.load(name, folder)


def test_every_study_of_the_project_is_sound():
    for name in schema.names():
        study = schema.load(name)
        assert study.question.endswith(("?", ")")) and study.cost > 0, name


def test_one_value_may_stand_where_a_list_may(tmp_path):
    study = written(
        tmp_path,
        HEAD
        + "recipe: {population: fresh, samples: 100}\nmethods: {method: agent, stage: coarse}\ncases: {ranges: near}",
    )
    assert study.recipe[0].population == ("fresh",) and study.recipe[0].samples == (100,)
    assert study.cases[0].ranges == {"near": ()} and study.methods[0].walks()
    two = written(tmp_path, HEAD + "cases: [{ranges: {tight: [1, 2, 3, 4, 5, 6]}}, {source: split}]")
    assert two.cases[0].ranges == {"tight": (1, 2, 3, 4, 5, 6)} and two.cases[1].source == "split"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("question: Why?\n", "x.yaml has no name; a study begins"),
        ("name: y\nquestion: Why?\n", "says name: y; it must say x"),
        (HEAD + "methds: agent\n", "Unknown name in x.yaml: methds; did you mean methods?"),
        (HEAD + "cases: {sorce: split}\n", "Unknown name in x.yaml: cases.sorce; did you mean cases.source?"),
        (HEAD + "cases: {conditions: {a: {what: b, tilted: 3}}}\n", "did you mean cases.conditions.a.tilt?"),
        (HEAD + "cases: {source: splits}\n", "Unknown source of cases in x.yaml: splits; did you mean split?"),
        (HEAD + "cases: {ranges: [nar]}\n", "Unknown range in x.yaml: nar; did you mean near?"),
        (HEAD + "cases: {ranges: {far: [30, 30, 400, 1, 1, 1]}}\n", "it needs six numbers, 0 to 300 mm"),
        (HEAD + "cases: {ranges: {far: [30, -1, 4, 1, 1, 1]}}\n", "it needs six numbers"),
        (HEAD + "cases: {starts: many}\n", "starts is 'many'"),
        (HEAD + "cases: {scanner: secnd}\n", "Unknown scanner in x.yaml: secnd; did you mean second?"),
        (HEAD + "cases: {scanner: second, source: split}\n", "the second scanner scans the source real_scans"),
        (
            HEAD + "cases: {conditions: {a: {what: b, objects: {stent: true}}}}\n",
            "objects are stent and table, of drawn spine patients",
        ),
        (
            HEAD + "cases: {source: split, conditions: {a: {what: b, objects: {wire: true}}}}\n",
            "objects are stent and table, of drawn spine patients",
        ),
        (HEAD + "cases: {source: split, every_level: true}\n", "of the source real_scans"),
        (HEAD + "cases: {fat_mm: 200}\n", "fat_mm is 200; it must be from 0 to 120 mm"),
        (HEAD + "cases: {min_overlap: 1}\n", "min_overlap a share from 0 to less than 1"),
        (HEAD + "cases: {starts: -1}\n", "starts must be a positive number"),
        (HEAD + "cases: {source: split, conditions: {a: {what: b, metal: true}}}\n", "needs the source real_scans"),
        (HEAD + "cases: {conditions: {a: {what: b, view: [0.5, 2]}}}\n", "view is two shares"),
        (HEAD + "methods: [{method: agent, steps: larg}]\n", "Unknown steps in x.yaml: larg"),
        (HEAD + "methods: [agent]\n", "there is no recipe"),
        (HEAD + "recipe: {samples: [0]}\n", "0 is no number of training samples"),
        (HEAD + "cases: {splits: [0, 1]}\n", "splits are of the source split"),
        (HEAD + "recipe: {seeds: [0, 1]}\n", "seeds are of agents that are trained"),
        (HEAD + CHANGE % "training: {batch: -3}", "training.batch in x.yaml (change a) is -3; it must be 1 or more."),
        (
            HEAD + CHANGE % "training: {bach: 3}",
            "Unknown parameter in x.yaml (change a): training.bach; did you mean training.batch?",
        ),
        (
            HEAD + CHANGE % "patients: {rtk: 2}",
            "patients.rtk in x.yaml (change a) is 2.0; it must be a share from 0 to 1.",
        ),
        (HEAD + CHANGE % "networks: nope", "x.yaml names 'nope' as networks of the change a; "),
        (HEAD + CHANGE % "against: nope", "x.yaml names 'nope' as against of the change a; "),
        (HEAD + CHANGE % "networks: a", "x.yaml names 'a' as networks of the change a, which borrows them"),
        (HEAD + CHANGE % "boost: 2", "changes.a.boost in x.yaml is 2.0; it must be a share from 0 to 1."),
        (HEAD + CHANGE % "boost: 0.2", "x.yaml: boost of the change a is of the study variants alone."),
        (HEAD + CHANGE % "learns: act", "changes.a.learns is 'act'"),
        (HEAD + CHANGE % "stages: corse", "changes.a.stages.0 is 'corse'"),
        (
            HEAD + "methods: [{method: itk, settings: {itk: {binz: 3}}}]\n",
            "x.yaml (method itk): baselines.itk.binz; did you",
        ),
        (HEAD + "recipe: {samples: 100}\nmethods: agent\n", "its method is {method: agent, stage: coarse}"),
        (HEAD + "cases: {conditions: {a: {what: b, ct_axes: [1, 0, 1]}}}\n", "ct_axes is three factors"),
        (HEAD + "methods: []\n", "x.yaml: methods is empty; name at least one"),
        (HEAD + "methods: []\ncases: [{methods: itk}, {}]\n", "x.yaml: methods is empty"),
        (HEAD + "cases: []\n", "x.yaml: cases is empty; name at least one"),
        (HEAD + "cases: {conditions: {}}\n", "x.yaml: cases.conditions is empty"),
        (HEAD + "cases: {ranges: []}\n", "x.yaml: cases.ranges is empty"),
        (HEAD + "recipe: {population: []}\n", "x.yaml: recipe.population is empty"),
        (HEAD + "planar: {curves: []}\n", "x.yaml: planar.curves is empty"),
        (HEAD + "cost: -3\n", "cost is -3 minutes"),
        (HEAD + "cost: 3\ncost: 4\n", "x.yaml: cost stands twice"),
        (HEAD + "cases: {starts: 3, starts: 4}\n", "x.yaml: starts stands twice"),
        (HEAD + "cases: [\n", "x.yaml cannot be read: see line"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UserError) as error:
        written(tmp_path, text)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_what_only_goes_together_is_not_asked_of_a_change(tmp_path):
    """It is laid over a profile that may have more patients than the smallest."""
    change = "patients: {n_test: 5}"
    assert written(tmp_path, HEAD + CHANGE % change).changes()["a"].patients == {"n_test": 5}


def test_studies_are_checked_before_any_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.yaml").write_text(HEAD + CHANGE % "training: {batch: -3}", encoding="utf-8")
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    assert door.main(["check", "smoke"]) == 2
    assert capsys.readouterr().err == "training.batch in x.yaml (change a) is -3; it must be 1 or more.\n"


def test_a_misspelt_study_is_one_sentence(capsys):
    assert door.main(["study", "beyond_trainin"]) == 2
    assert "There is no study 'beyond_trainin'; did you mean beyond_training?" in capsys.readouterr().err
    assert door.main(["study", "variants"]) == 2 and "is run by `make claims`" in capsys.readouterr().err
    assert door.main(["study", "../cpu"]) == 2, "a profile is no study"
    assert "There is no study '../cpu'" in capsys.readouterr().err
    assert door.main(["study", "figure4", "--again"]) == 2 and "--again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "--profile", "nosuch"),
        ("verify", "--profile", "nosuch"),
        ("claims", "write", "nosuch"),
        ("baselines", "nosuch_polish", "--profile", "smoke"),
    ],
)
def test_a_name_that_is_none_is_not_taken_for_another(words, capsys):
    assert door.main(list(words)) == 2
    assert "nosuch" in capsys.readouterr().err or words[0] == "claims"


@pytest.mark.parametrize("name", ["semantic_0", "semantic_999"])
def test_semantic_registration_does_not_learn_from_patients_that_are_not_there(name, monkeypatch):
    monkeypatch.setattr(pairs, "split_folders", lambda cfg: {"train": ["a", "b"]})
    with pytest.raises(UserError, match="2 training patients"):
        batch.semantic_models(run.load_config("smoke"), [name])


def test_a_study_that_finds_nobody_says_so(bench):
    bench.people = []
    with pytest.raises(UserError, match="nobody to register"):
        bench.go()
    assert not rows.path_of(bench.folder, "x").exists()


def test_names_in_the_tables_say_what_walked():
    ways = (
        {},
        {"stage": "coarse"},
        {"steps": "adaptive"},
        {"steps": "third"},
        {"then": "polish"},
        {"refine": "object"},
    )
    found = [schema.Method("agent", **way).label("dsl") for way in ways]
    assert found == ["dsl", "dsl_coarse", "dsl_adaptive", "dsl_third", "dsl_polish", "dsl_object"]
    assert schema.Method("register_both").label("dsl") == "register_both"


def test_a_window_at_the_object_and_adaptive_steps_with_a_third_of_the_actions_too():
    cfg = run.load_config("cpu")
    assert methods.agent_settings(cfg, schema.Method("agent", refine="object"), False).refine == "object"
    study, heart = schema.load("papers_agent"), recipes.Maker("heart", "reproduce", "dsl")  # has no fine window
    loop = run.Loop(cfg, study)
    assert loop._methods(study.cases[0], heart) == [(schema.Method("agent"),)]
    assert len(loop._methods(study.cases[0], dataclasses.replace(heart, experiment="spine"))) == 3
    usual, adaptive, third = (
        methods.agent_settings(cfg, schema.Method("agent", steps=steps), True) for steps in ("one", "adaptive", "third")
    )
    assert (usual.adaptive, adaptive.adaptive, third.adaptive) == (False, True, True)
    assert (adaptive.coarse_steps, third.coarse_steps, third.fine_steps) == (200, 67, 33)
    assert usual.fine_limit == 25.0 and methods.agent_settings(cfg, schema.Method("agent"), False) == cfg.agent


# ----- the loop, with two patients, an agent that always arrives and a baseline that never moves


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A study of two patients; `asked` is filled with (method, patient) as they are registered."""
    from test_conditions import grid

    from lib.patients.store import Patient

    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    truth = rigid.translation([0.0, 0.0, 20.0])

    def patient(id):
        who = Patient(id, "spine", "scan_a", grid(24, 8.0, (0, 0, 20.0)), grid(48, 8.0), truth)
        who.landmarks_moving, who.landmarks_fixed = np.zeros((1, 3)), rigid.apply(truth, np.zeros((1, 3)))
        return who

    one = SimpleNamespace(asked=[], loaded=[], stop_after=10**9, people=["a", "b"], folder=tmp_path)

    def people(cfg, block, experiment, held_out, say):
        def load(id):
            one.loaded.append(id)
            return patient(id)

        return [sources.Person("scan_a", id, lambda id=id: load(id)) for id in one.people]

    def ask(name, id):
        if len(one.asked) == one.stop_after:
            raise KeyboardInterrupt
        one.asked.append((name, id))

    def walk(cfg, agent, todo, settings):
        ask("agent", todo[0].id)
        return [SimpleNamespace(pose=c.patient.truth, seconds=1.0) for c in todo]

    def run_methods(names, todo, settings, models, keep):
        for id in dict.fromkeys(c.id for c in todo):
            some = [n for n, c in enumerate(todo) if c.id == id]
            ask(names[0], id)
            keep(names[0], some, [Result(todo[n].initial, 2.0) for n in some])
        yield names[0], None

    network = tmp_path / "agents" / "spine" / "dsl_two_channel_{}.safetensors"
    network.parent.mkdir(parents=True)
    for stage in ("coarse", "fine"):
        network.with_name(network.name.format(stage)).write_bytes(b"1")
    one.network = network.with_name(network.name.format("coarse"))
    monkeypatch.setattr(sources, "people", people)
    monkeypatch.setattr(populations, "held_out", lambda *_: ["scan_a"])
    monkeypatch.setattr(recipes, "load", lambda cfg, maker: "agent")
    monkeypatch.setattr(methods.walk, "walk", walk)
    monkeypatch.setattr(methods.run, "run_methods", run_methods)
    text = (
        HEAD
        + "recipe: {population: released}\ncases: {ranges: near, starts: 2}\nmethods: [initial, agent, itk_tuned]\n"
    )
    one.study = written(tmp_path, text)

    def go(study=one.study, profile="cpu", **words):
        said = []
        run.Loop(run.load_config(profile), study, say=said.append, **words).run()
        return said

    one.go = go
    return one


def test_semantic_registration_never_learns_from_who_it_registers(bench, monkeypatch):
    """Of a study: from the other half of the patients, each half in its turn."""
    from lib.baselines import semantic

    pairs, trained, bench.people = [], [], ["a", "b", "c", "d"]

    def train(patients, settings):
        trained.append([one.id for one in patients])
        return trained[-1]

    monkeypatch.setattr(semantic, "train", train)

    def run_methods(names, todo, settings, models, keep):
        pairs.extend((case.id, other) for case in todo for other in models["semantic"])
        keep("semantic", range(len(todo)), [Result(case.initial, 2.0) for case in todo])
        yield "semantic", None

    monkeypatch.setattr(methods.run, "run_methods", run_methods)
    text = HEAD + "cases: {source: untested, ranges: near, starts: 1}\nmethods: [semantic]\n"
    bench.go(written(bench.folder, text))
    assert sorted(pairs) == [(a, b) for a, other in (("a", "bd"), ("b", "ac"), ("c", "bd"), ("d", "ac")) for b in other]
    assert sorted(rows.read(bench.folder, "x")["case"]) == ["a", "b", "c", "d"]
    path = rows.path_of(bench.folder, "x")
    rows.read(bench.folder, "x").query("case != 'a'").to_csv(path, index=False)  # a run that was stopped
    bench.go(written(bench.folder, text))
    assert trained == [["b", "d"], ["a", "c"], ["b", "d"]], "whose rows are there, for them nothing is learnt again"
    text = text.replace("source: untested", "source: real_scans")
    with pytest.raises(UserError, match="half of the patients"):
        written(bench.folder, text)


def test_a_study_writes_rows_of_one_schema_and_is_not_run_twice(bench):
    said = bench.go()
    assert "12 registrations to do" in said[0] and "12 of 12, about 0 min left" in said[-1]
    assert str(bench.folder / "rows" / "x.csv") in said[0]
    found = rows.read(bench.folder, "x")
    assert tuple(found.columns) == rows.COLUMNS and len(found) == 12
    assert found["success"][found["method"] == "dsl_two_channel"].all()
    agent = found[found["method"] == "dsl_two_channel"].iloc[0]
    what = ("released", "dsl_two_channel", "both", "one")
    assert tuple(agent[["recipe", "agent", "stage", "steps"]]) == what and agent["final_error_mm"] < 1e-3
    assert (found["recipe"][found["method"] == "itk_tuned"] == "").all()
    record = json.loads((bench.folder / "rows" / "x.csv.provenance.json").read_text())
    assert record["study"]["question"] == "Why?"
    bench.asked.clear(), bench.loaded.clear()
    assert "all rows are there" in bench.go()[0] and not bench.asked and not bench.loaded
    assert listing.state(bench.study, bench.folder) == "there, 12 rows"


def test_every_failure_has_its_picture(bench):
    bench.go()
    made = rows.read(bench.folder, "x")
    failed = made[(made["method"] == "itk_tuned") & ~made["success"]]
    found = list(failures.found(bench.study, failed))
    assert len(found) == len(failed) == 4 and [who.id for _, who, _ in found] == ["a", "a", "b", "b"]
    for (words, _, pose), row in zip(found, failed.to_dict("records"), strict=True):
        assert words == f"{row['case']}: {row['final_error_mm']:.0f} mm"
        assert metrics.tre(np.zeros((1, 3)), pose, [[0, 0, 20.0]]) == pytest.approx(row["final_error_mm"], abs=1e-3)
    sheet = scans.failures(iter(found), len(found), "All of them", columns=3)
    assert [ax.get_title() != "" for ax in sheet.axes] == [True] * 4 + [False] * 2


def test_a_failure_that_is_none_is_one_sentence(bench, capsys):
    assert door.main(["failures", "every_level", "nosuch"]) == 2 and "no rows of every_level" in capsys.readouterr().err


def test_a_block_that_runs_nothing_asks_for_nobody(bench, tmp_path, monkeypatch):
    """Notebook 07 keeps to two methods; a scan that only others need may be missing."""
    blocks = "cases: [{ranges: near, starts: 2}, {ranges: near, scans: gone, methods: [elastix]}]\n"
    study = written(tmp_path, HEAD + blocks + "methods: [initial, itk_tuned]\n")
    plain = run.sources.people

    def people(cfg, block, *words):
        if block.scans:
            raise UserError("gone is not on this machine.")
        return plain(cfg, block, *words)

    monkeypatch.setattr(run.sources, "people", people)
    assert "registrations to do" in bench.go(study, only=("itk_tuned",))[0]
    with pytest.raises(UserError, match="gone"):
        bench.go(study)


def test_an_interrupted_study_goes_on_where_it_stopped(bench):
    bench.stop_after = 3  # both walks, and the baseline on the first patient
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert len(rows.read(bench.folder, "x")) == 4 + 4 + 2, "the agent, the starts, the baseline on one patient"
    assert listing.state(bench.study, bench.folder).startswith("there")  # of every kind there are some
    bench.stop_after = 10**9
    bench.go()
    assert bench.asked == [("agent", "a"), ("agent", "b"), ("itk_tuned", "a"), ("itk_tuned", "b")]
    assert len(rows.read(bench.folder, "x")) == 12


def test_new_networks_walk_again_and_their_older_rows_go(bench):
    bench.go()
    bench.network.write_bytes(b"2")
    bench.people = ["b"]  # patient a is not on this machine today
    bench.asked.clear()
    bench.go()
    assert bench.asked == [("agent", "b")], "the baseline's rows stand"
    found = rows.read(bench.folder, "x")
    assert set(found["case"][found["method"] == "dsl_two_channel"]) == {"b"}, "rows of an agent are of one training"
    assert set(found["case"][found["method"] == "itk_tuned"]) == {"a", "b"}, "rows that another machine made stay"


def test_every_split_and_seed_is_a_training_of_its_own_and_its_rows_stay(bench, tmp_path, monkeypatch):
    """Rows are written training by training; those of one split do not make way for another's."""
    made, network = [], bench.folder / "networks"

    def make(cfg, maker, say):
        made.append((cfg.split, maker.seed, len(rows.read(bench.folder, "x"))))
        path = recipes.networks(cfg, maker)
        for file in path.values():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str((cfg.split, maker.seed)))

    monkeypatch.setattr(recipes, "make", make)
    monkeypatch.setattr(recipes, "folder", lambda cfg, maker: network / f"{cfg.split}{maker.seed}")
    text = "recipe: {population: reproduce, agents: dsl, seeds: [0, 2]}\nmethods: agent\n"
    study = written(tmp_path, HEAD + text + "cases: {source: split, splits: [1, 3], ranges: full, starts: 2}\n")
    bench.go(study)
    assert made == [(1, 0, 0), (3, 0, 4), (1, 2, 8), (3, 2, 12)], "all splits of one seed, then the next seed's"
    found = rows.read(bench.folder, "x")
    assert len(found) == 16 and found.groupby(["split", "change", "seed"]).size().tolist() == [4] * 4
    assert set(found["change"]) == {"", "seed_2"} and set(found["seed"]) == {"0", "2"}
    bench.asked.clear()
    bench.go(study)
    assert bench.asked == [] and len(made) == 4
    path = bench.folder / "rows" / "x.csv"  # and where another machine made some rows, and has the networks
    found[(found["split"] != 3) | (found["seed"] != "2")].to_csv(path, index=False)
    for file in (network / "10").iterdir():
        file.unlink()
    monkeypatch.setattr(recipes, "load", lambda cfg, maker: recipes.networks(cfg, maker)["coarse"].read_text())
    bench.go(study)
    assert bench.asked == [("agent", "a"), ("agent", "b")] and len(made) == 4


def test_rows_that_are_older_than_the_files_count_as_the_released_agents(bench):
    bench.go()
    path = bench.folder / "rows" / "x.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table.assign(made_by=rows.EARLIER).to_csv(path, index=False)
    bench.asked.clear()
    assert "all rows are there" in bench.go()[0]
    table[table["made_by"] != ""].assign(made_by="other settings").to_csv(path, index=False)
    bench.go()
    assert len(bench.asked) == 4, "rows of other settings are made again"
    bench.asked.clear()
    bench.go(again=True)
    assert len(bench.asked) == 4


def test_rows_of_an_agent_that_is_not_here_stay_and_a_polish_needs_its_walk(bench):
    bench.go()
    for stage in ("coarse", "fine"):
        bench.network.with_name(f"dsl_two_channel_{stage}.safetensors").unlink()
    bench.asked.clear()
    assert "all rows are there" in bench.go()[0] and not bench.asked
    bench.people = ["a", "b", "c"]
    with pytest.raises(UserError, match="no released agent"):
        bench.go()
    bench.network.write_bytes(b"1")
    bench.network.with_name("dsl_two_channel_fine.safetensors").write_bytes(b"1")
    lame = dataclasses.replace(bench.study, methods=(schema.Method("agent", then="polish"),))
    with pytest.raises(UserError, match="a polish needs the walk dsl_two_channel"):
        bench.go(dataclasses.replace(lame, name="y"))


def test_other_starts_under_the_same_name_are_refused(bench):
    bench.go()
    path = bench.folder / "rows" / "x.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table.assign(initial_error_mm=33.0, made_by="other").to_csv(path, index=False)
    with pytest.raises(UserError, match="rows from other starts"):
        bench.go()


def test_a_study_is_kept_to_some_methods(bench):
    bench.go(only=("itk_tuned",))
    assert {name for name, _ in bench.asked} == {"itk_tuned"}
    with pytest.raises(UserError, match="no method 'itk_serch'"):
        bench.go(dataclasses.replace(bench.study, methods=(schema.Method("itk_serch"),)))


def test_a_word_after_only_that_is_none_is_one_sentence(capsys):
    assert door.main(["study", "organs_moved", "--only", "nope"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Unknown word after --only for organs_moved: nope; choose one of elastix, greedy_search, ")
    assert door.main(["study", "organs_moved", "--only", "itk_tund"]) == 2
    assert capsys.readouterr().err.endswith("itk_tund; did you mean itk_tuned?\n")
    assert {"without_0", "reproduce", "initial", "itk_search_bone"} <= set(command.names(schema.load("real_scans")))
    assert {"fresh", "fresh+again"} <= set(command.names(schema.load("transfer_changes")))


def test_the_command_gives_all_its_methods_from_one_run(bench, monkeypatch):
    truth, asked = rigid.translation([0.0, 0.0, 20.0]), []
    numbers = {"overlap": 1.0, "agreement": 1.0, "scouts": 2.0, "likeness": 0.71234567, "lead": 0.3, "beside": 0.2}
    trust = judged.judge(numbers | {"shift": 0.0}, "both")

    def register(fixed, moving, experiment, initial, agent, settings):
        asked.append(settings.scouts)
        seconds = {"agent": 2.0, "total": 6.0}
        return SimpleNamespace(ends=[initial, truth], pose=truth, trust=trust, seconds=seconds)

    monkeypatch.setattr(methods.register, "register", register)
    names = ("register_once", "register", "register_both")
    bench.go(dataclasses.replace(bench.study, methods=tuple(map(schema.Method, names))))
    found = rows.read(bench.folder, "x").groupby("method")
    assert sorted(asked) == ["agent"] * 4 + ["both"] * 4 and set(found.groups) == set(names)
    assert found["seconds"].first().to_dict() == {"register": 6.0, "register_both": 6.0, "register_once": 1.0}
    assert found["success"].all().to_dict()["register"] and set(found["verdict"].first()) == {"", "good"}
    one = found.get_group("register")
    assert rows.numbers(one).iloc[0].to_dict() == numbers | {"likeness": 0.7123, "shift": 0.0}


def test_settings_are_chosen_on_patients_never_tested(tmp_path, monkeypatch):
    sides = {0: ("a", "b"), 1: ("c", "b")}  # test, validation; the rest trains
    names = [tmp_path / "virtual_spine" / name for name in "abcd"]

    def split_folders(cfg):
        test, validation = sides[cfg.split]
        parts = {"test": [test], "validation": [validation], "train": [n for n in "abcd" if n not in sides[cfg.split]]}
        return {side: [tmp_path / "virtual_spine" / n for n in some] for side, some in parts.items()}

    monkeypatch.setattr(sources.pairs, "split_folders", split_folders)
    cfg = run.load_config("smoke")
    cfg = dataclasses.replace(cfg, patients=dataclasses.replace(cfg.patients, n_splits=2))
    block = schema.load("choice_of_settings").cases[0]
    with pytest.raises(UserError, match="run notebook 01"):
        next(sources.people(cfg, block, "spine", None)).load()
    for name in names:
        name.mkdir(parents=True)
        (name / "patient.json").touch()
    assert [p.id for p in sources.people(cfg, block, "spine", None)] == ["b", "d"]
    tuned = {m.change: methods.settings_of(cfg, m).tuned for m in schema.load("choice_of_settings").methods}
    assert tuned["no mask"].use_mask is False and tuned["no mask"].samples == 8000 == tuned["first guess"].samples
    assert tuned["the same, 32 bins"] == cfg.baselines.tuned, "the winner"


def test_numbers_and_notes_come_back_as_they_were_written(tmp_path):
    store = rows.Store(tmp_path / "rows" / "x.csv")
    line = dict.fromkeys(rows.COLUMNS, "") | dict.fromkeys(rows.NUMBER, 1.5) | {"start": 0, "split": 0, "success": True}
    store.add([line | {"case": "007", "note": "NA", "profile": "cpu"}])
    store.add([line | {"case": "008", "profile": "cpu", "final_error_mm": np.nan}])
    back = rows.read(tmp_path, "x", "none_such")
    assert (
        list(back["case"]) == ["007", "008"] and list(back["note"]) == ["NA", ""] and back["tx"].tolist() == [1.5, 1.5]
    )
    (tmp_path / "rows" / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        rows.read(tmp_path, "y")


def test_committed_rows_are_of_the_schema_and_of_their_studies():
    for name in schema.names():
        found = rows.read(run.config.ROOT / "results", name)
        if len(found):
            assert set(found["study"]) == {name} and not found.duplicated(list(rows.KEY)).any()
            known = listing.expected(schema.load(name))
            have = set(found[list(rows.WHAT)].itertuples(index=False, name=None))
            assert have & known, name


def test_the_list_names_every_study(capsys, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    assert door.main(["studies"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name}: {schema.load(name).question}" in shown for name in schema.names())
    assert "beyond_training" in shown and "rows there, 360 rows; 15 min on one core" in shown


def test_a_stranger_is_another_of_the_same_people_where_there_are_no_others(bench):
    """Drawn patients share a data set and have no group: each still meets somebody else's CT."""
    bench.people = ["a", "b", "c"]
    text = (
        "cases: {ranges: near, starts: 1, conditions: {other: {what: another CT, stranger: true}}}\nmethods: initial\n"
    )
    bench.go(written(bench.folder, HEAD + text))
    found = rows.read(bench.folder, "x")
    assert sorted(found["case"]) == ["a", "b", "c"] and (found["final_error_mm"] > 900).all()
    assert len(bench.loaded) == 6


def test_the_peers_that_are_timed_are_methods_that_run():
    from lib.baselines import methods
    from lib.study import bench

    assert set(bench.PEERS) <= set(methods.runnable()) and all(callable(methods.load(name)) for name in bench.PEERS)
