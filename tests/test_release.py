"""Released agents: copied whole, with a card that says what they are."""

import json

import pytest

from lib import network, train
from lib.__main__ import main
from lib.base import provenance
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
