"""Released agents: copied whole, with a card that says what they are."""

import json

import pytest

from lib import network, train
from lib.__main__ import main
from lib.base import folders, provenance
from lib.base.errors import UserError
from lib.study import config, release
from lib.tables import card as model_card


def test_release(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(UserError, match="no trained agents"):
        release.release("smoke")
    for experiment in config.EXPERIMENTS:
        folder = tmp_path / f"runs/smoke/{experiment}/split0/agents"
        net = network.ActionValueNetwork(network.NetworkSettings(32, "two_channel"))
        network.save(net, folder / "dsl_two_channel_coarse.safetensors", {"voxel": 8, "source": 4, "seconds": 60})
        train._write_log(folder / "dsl_two_channel_coarse_log.csv", [dict.fromkeys(train.LOG_COLUMNS, 0.5)])
    paths = release.release("smoke")
    assert [p.parent.name for p in paths] == ["spine", "heart"]
    assert not (tmp_path / "agents" / "MODEL_CARD.md").exists(), "the card is written after the tables"
    card = model_card.write(tmp_path / "agents", profile="smoke").read_text()
    assert "spine/dsl_two_channel_coarse.safetensors" in card and "Not measured yet" in card
    table = "experiment,dataset,method,n,success,p50,p90\nspine,virtual_spine,dsl,250,0.58,7.48,36.05\n"
    (tmp_path / "table1.csv").write_text(table)
    assert main(["card", "smoke"]) == 0  # of the agents that are there, with the tables as they are now
    again = (tmp_path / "agents" / "MODEL_CARD.md").read_text()
    assert "`dsl`: success 58 % of 250, median 7.5 mm" in again
    networks = [[line for line in text.splitlines() if "safetensors |" in line] for text in (card, again)]
    assert len(networks[0]) == 2 and networks[0] == networks[1]
    assert "other settings" not in again
    for voxel, expected in ((12.0, "`stream.coarse_voxel` 12.0 (now 8.0)"), (8.0, "")):
        then = {"config": {"values": {"stream": {"coarse_voxel": voxel}, "training": {"report_every": 1}}}}
        provenance.beside(paths[0]).write_text(json.dumps(then))
        said = [line for line in model_card.card(paths, "smoke", 0).splitlines() if "other settings" in line]
        assert bool(said) == bool(expected) and expected in "".join(said)
    assert [p.parent.name for p in release.release("smoke")] == ["heart"], (
        "the population that registers was not trained here"
    )
    assert model_card.verify(tmp_path / "agents", "smoke") == []
    card = tmp_path / "agents" / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("58 %", "85 %"))
    assert "not what the networks and the tables say" in model_card.verify(tmp_path / "agents", "smoke")[0]
    monkeypatch.setattr(release, "LIMIT_MB", 1)
    with pytest.raises(UserError, match="more than 1"):
        release.release("smoke")


def test_command_line_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    assert main(["release", "smoke"]) == 2
    assert "make reproduce PROFILE=smoke" in capsys.readouterr().err


def trained(results, split):
    """Agents of a split as notebook 03 leaves them, with their provenance."""
    for experiment in config.EXPERIMENTS:
        folder = results / f"runs/cpu/{experiment}/split{split}/agents"
        cfg = config.load("cpu", ("stream", "training"), experiment=experiment, split=split)
        for agent, sees in (("dsl", "difference"), ("dsl_two_channel", "two_channel")):
            path = folder / f"{agent}_coarse.safetensors"
            net = network.ActionValueNetwork(network.NetworkSettings(32, sees))
            network.save(net, path, {"voxel": 8, "source": 4, "seconds": 60})
            provenance.record(path, cfg)


def test_the_card_is_of_the_split_that_was_released(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    target = tmp_path / "agents"
    for split in (1, 0):
        trained(tmp_path, split)
        assert main(["release", "cpu", str(split)]) == 0
        assert main(["card"]) == main(["card", "cpu", str(split)]) == 0
        assert f"are those of split {split} as trained" in (target / "MODEL_CARD.md").read_text()
        assert model_card.verify(target) == []
    assert model_card.split_of(model_card.networks(folders.ROOT / "results/agents")) == 0


def test_an_agent_that_stays_at_a_release_does_not_say_its_split(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    trained(tmp_path, 0)
    release.release("cpu", 0)
    beside = provenance.beside(tmp_path / "agents/spine/dsl_two_channel_coarse.safetensors")
    provenance.write_json(beside, json.loads(beside.read_text()) | {"population": "without_1"})
    trained(tmp_path, 1)
    release.release("cpu", 1)
    found = model_card.networks(tmp_path / "agents")
    assert model_card.split_of(found) == model_card.split_of(found[::-1]) == 1
    assert model_card.split_of([tmp_path / "agents/spine/dsl_two_channel_coarse.safetensors"]) == 0


@pytest.mark.parametrize("split", ["9", "-1", "2"])
def test_a_card_of_a_split_that_was_not_released_is_refused(tmp_path, monkeypatch, capsys, split):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    trained(tmp_path, 1)
    release.release("cpu", 1)
    assert main(["card", "cpu", split]) == 2 and not (tmp_path / "agents/MODEL_CARD.md").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    if split != "2":
        with pytest.raises(UserError, match=f"split is {split}"):
            release.release("cpu", int(split))
