"""Deep supervised learning: what a network learns, the training loop (Eq. 5), its checkpoints and its learning curve.

Needs no more than a bare GPU box has; several GPUs share one training under `torchrun` (`lib.base.ranks`). An interrupted
run goes on from its last checkpoint with the very same samples.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch

from lib import mdp, network, rigid
from lib.augment import Stream, StreamSettings, TrainingPair
from lib.base import ranks, weights
from lib.base.errors import UserError
from lib.base.limits import Count, Counts, Number, Rate, Rule, Share, Size
from lib.base.provenance import atomic
from lib.base.sections import arguments
from lib.loss import q_loss, value_weight

AGENTS = {"dsl": "difference", "dsl_two_channel": "two_channel", "dsl_three_channel": "three_channel"}
LOG_COLUMNS = (
    *("step", "samples", "loss", "val_loss", "val_agreement", "val_regret"),
    *("learning_rate", "samples_per_second", "seconds"),
)
# Settings that leave the trained network alone, or of which an identity holds the part that its stage uses.
IDLE = ("samples", "fine_samples", "heart_samples", "heart_fine", "validation_samples", "report_every")
IDLE += ("spine_range", "heart_range", "fine_range", "fine_shift", "fine_turn")
BLOCK = 50  # steps between reseedings of the stream; checkpoints and log lines fall on multiples of it
Blocks = Annotated[int, Rule(lambda n: n > 0 and n % BLOCK == 0, f"a multiple of {BLOCK}")]


@dataclass(frozen=True)
class TrainSettings:
    """The optimiser and the shape of the network."""

    samples: Count = 3200  # training samples of a coarse network (the paper: 64,000 a pair, more than 5 M)
    fine_samples: Count = 2400  # the same for the fine network
    heart_samples: Number = 0  # the same for E2's coarse network; 0: as E1's
    heart_fine: bool = False  # also train a fine network for E2 (the paper did not)
    batch: Count = 32  # samples per step (the paper: 32)
    optimiser: Literal["adamw", "rmsprop"] = "adamw"  # rmsprop: the paper, no momentum
    learning_rate: Rate = 3.0e-3  # (the paper: 6e-5)
    schedule: Literal["cosine", "step"] = "cosine"  # with warm-up; step: x0.7 every 10,000 steps (the paper)
    warm_up: Number = 50  # steps of linear warm-up
    weight_decay: Size = 1.0e-3  # AdamW only
    value_weight: Size = 0.05  # weight of the error common to all 12 actions; 1 is Eq. 5 as printed (the paper)
    value_ramp: Share = 0.0  # the last share of the training, in which that weight rises linearly and ends at 1
    padding: Literal["valid", "mixed", "same"] = "mixed"  # network (the paper: valid)
    stem: Literal["pool", "strided"] = "strided"  # network (the paper: pool)
    filters: Counts = (16, 32, 32, 128, 128)  # network (the paper: 8, 32, 32, 128, 128)
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # bf16 where the processor is fast at it
    validation_samples: Count = 256  # samples of validation patients behind each point of the curve
    report_every: Blocks = 50  # steps between lines of the log
    seed: Number = 0


@dataclass(frozen=True)
class Objective:
    """What the outputs of a network are to be. The defaults are the paper's twelve action values."""

    name: str = ""  # tells networks apart that differ in nothing else
    outputs: int = 12
    mean: float | tuple[float, ...] = 7.0  # of the outputs before training: of all, or of each
    loss: Callable | None = None  # (prediction, targets, v) -> number, as `Stream.batch` gives them; None: Eq. 5
    stream: Callable = Stream  # makes the samples


@dataclass(frozen=True)
class Lesson:
    """One network to train: from which samples, how, and what for. Raises UserError for an unknown agent."""

    stream: StreamSettings
    training: TrainSettings
    experiment: str  # spine | heart
    stage: str  # coarse | fine
    agent: str  # a name of AGENTS
    objective: Objective = Objective()

    def __post_init__(self):
        if self.agent not in AGENTS:
            raise UserError(f"there is no agent {self.agent!r}; choose one of {', '.join(AGENTS)}.")

    @property
    def name(self) -> str:
        return f"{self.agent}_{self.stage}"

    @property
    def steps(self) -> int:
        t = self.training
        coarse = (t.heart_samples or t.samples) if self.experiment == "heart" else t.samples
        return -(-(coarse if self.stage == "coarse" else t.fine_samples) // t.batch)

    @property
    def shape(self) -> network.NetworkSettings:
        t, n = self.training, self.objective.outputs
        return network.NetworkSettings(self.stream.window, AGENTS[self.agent], t.padding, t.stem, t.filters, n)

    def samples(self, pairs: list[TrainingPair], device, seed: int, kind: Callable = Stream) -> Stream:
        """The samples from these pairs."""
        return kind(pairs, self.stream, self.experiment, self.stage, AGENTS[self.agent], seed, device)

    def identity(self, ids: list[str]) -> dict:
        """All that decides what the trained network is, plain values by name; `ids` of its training pairs."""
        values = asdict(self.stream) | asdict(self.training)
        for name in (*IDLE, *(f"{stage}_{what}" for stage in ("coarse", "fine") for what in ("voxel", "source"))):
            values.pop(name)
        values |= {
            "experiment": self.experiment,
            "stage": self.stage,
            "agent": self.agent,
            "objective": self.objective.name,
            "pairs": sorted(ids),
            "steps": self.steps,
            "voxel": self.stream.voxel(self.stage),
            "source": self.stream.source(self.stage),
            "range": self.stream.range(self.experiment, self.stage),
            "fixed_shift": self.stream.fixed(self.stage)[0],
            "fixed_turn": self.stream.fixed(self.stage)[1],
        }
        return json.loads(json.dumps(values))  # lists, not tuples: as they are read back

    def is_in(self, metadata: dict[str, str], ids: list[str]) -> bool:
        """Whether a file's `metadata` is this lesson's. A setting that is newer than the file had its default then."""
        base = Lesson(StreamSettings(), TrainSettings(), self.experiment, self.stage, self.agent)
        return base.identity([]) | _stored(metadata.get("identity", "")) == self.identity(ids)


def _stored(identity: str) -> dict:
    """The values of an identity as files hold it: JSON, or before November 2026 the settings in Python's notation."""
    try:
        if identity.startswith("{"):
            return json.loads(identity)
        stream, training, experiment, stage, agent, ids, *objective = identity.split("|")
        settings = StreamSettings(**arguments(stream)), TrainSettings(**arguments(training))
        lesson = Lesson(*settings, experiment, stage, agent, Objective("".join(objective)))
        return lesson.identity(ast.literal_eval(ids))
    except (ValueError, TypeError, SyntaxError, AttributeError, UserError):
        return {}  # of another time: not this lesson's


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    if settings.schedule == "step":
        return settings.learning_rate * 0.7 ** (step // 10_000)
    warm = min(1.0, (step + 1) / max(1, min(settings.warm_up, steps // 5)))
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _optimiser(model, settings: TrainSettings):
    if settings.optimiser == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), settings.learning_rate, alpha=0.99, eps=1e-8, momentum=0.0)
    return torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


class _Validation:
    """A fixed set of samples from the validation patients; how well the largest value picks the greedy action."""

    def __init__(self, stream: Stream, n: int):
        parts = [stream.batch(min(64, n - a)) for a in range(0, n, 64)]
        self.x, self.q, v = (torch.cat(t) for t in zip(*parts, strict=True))
        residual = rigid.params_to_matrix(v)
        self.optimal, self.reward = mdp.greedy_actions(residual, 1e-4), mdp.rewards(residual)

    def measure(self, model, forward) -> tuple[float, float, float]:
        """Loss, share of samples where the largest value is a greedy action, mean reward lost by it."""
        model.eval()
        with torch.no_grad():
            q = torch.cat([forward(self.x[a : a + 64]) for a in range(0, len(self.x), 64)])
        model.train()
        best, rows = q.argmax(1), torch.arange(len(q))
        regret = self.reward.max(1).values - self.reward[rows, best]
        found = (q - self.q).square().mean(), self.optimal[rows, best].float().mean(), regret.mean()
        return tuple(float(x) for x in found)


class _Learner:
    """A network at its lesson: model, optimiser, samples."""

    def __init__(self, lesson: Lesson, pairs, validation, device):
        self.lesson, self.settings, self.device = lesson, lesson.training, device
        self.half = network.half_precision(self.settings.precision, device)
        torch.manual_seed(self.settings.seed)
        self.stream = lesson.samples(pairs, device, self.settings.seed, lesson.objective.stream)
        model = network.ActionValueNetwork(lesson.shape, lesson.objective.mean)
        self.model = ranks.shared(model).to(device).to(memory_format=torch.channels_last_3d).train()
        self.optimiser = _optimiser(self.model, self.settings)
        self.checks = _Validation(lesson.samples(validation, device, seed=991), self.settings.validation_samples)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, w, w, w) -> (n, outputs), float32."""
        x = x.to(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            return self.model(x).float()

    def step(self, step: int) -> torch.Tensor:
        """Step number `step` of the training; returns its loss."""
        if step % BLOCK == 0:
            self.stream.reseed(self.settings.seed * 1_000_003 + step)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, step, self.lesson.steps)
        x, q, v = map(ranks.part, self.stream.batch(self.settings.batch))
        prediction, loss_of = self.forward(x), self.lesson.objective.loss
        weight = value_weight(self.settings.value_weight, self.settings.value_ramp, step, self.lesson.steps)
        loss = loss_of(prediction, q, v) if loss_of else q_loss(prediction, q, weight)
        loss.backward()
        ranks.average(self.model)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return ranks.mean(loss.detach())

    def measure(self) -> tuple[float, float, float]:
        """As `_Validation.measure`; NaNs where the outputs are not the twelve action values alone."""
        whole = self.lesson.objective.outputs == 12
        return self.checks.measure(self.model, self.forward) if whole else (float("nan"),) * 3


def _keep_log(path, step):
    """Rows of an earlier run's log up to `step`."""
    lines = Path(path).read_text().splitlines() if step and Path(path).exists() else []
    return [row for row in csv.DictReader(lines) if int(row["step"]) <= step]


def _write_log(path, rows):
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def train(lesson: Lesson, pairs: list[TrainingPair], validation, folder, device: str = "auto", say=print) -> Path:
    """Train one network; returns the path of its weights, `folder/<agent>_<stage>.safetensors`.

    Beside them stand the learning curve `_log.csv` and, until it is done, a checkpoint. A finished network of the same
    lesson and pairs is not trained again. `say` gets one line a report. Without `validation` the pairs themselves serve.
    """
    folder, name, steps, ids = Path(folder), lesson.name, lesson.steps, [pair.id for pair in pairs]
    final, log_path, checkpoint = (folder / f"{name}{end}" for end in (".safetensors", "_log.csv", ".checkpoint"))
    if final.exists() and lesson.is_in(weights.load(final)[1], ids):
        say(f"{name}: already trained, {final}")
        return final
    identity, batch = json.dumps(lesson.identity(ids)), ranks.join(lesson.training.batch)
    say = partial(ranks.alone, say)
    learner = _Learner(lesson, pairs, validation or pairs, network.device_for(device))
    found = weights.load_training(checkpoint, learner.model, learner.optimiser, lambda meta: lesson.is_in(meta, ids))
    first, before = int(found.get("step", 0)), float(found.get("seconds", 0))
    rows, started, losses, saved = _keep_log(log_path, first), time.time(), [], time.time()
    where = f"{learner.device.type}{' bf16' if learner.half else ''}"
    say(f"{name}: {steps * batch:,} samples on {where}, from step {first} of {steps}; result in {final}")
    for step in range(first + 1, steps + 1):
        losses.append(learner.step(step - 1))
        if step % lesson.training.report_every == 0 or step == steps:
            seconds, loss, measured = time.time() - started, float(torch.stack(losses).mean()), learner.measure()
            rate, losses = (step - first) * batch / seconds, []
            pace = learner.optimiser.param_groups[0]["lr"]
            values = (step, step * batch, loss, *measured, pace, rate, before + seconds)
            rows.append(dict(zip(LOG_COLUMNS, (f"{x:.6g}" for x in values), strict=True)))
            ranks.alone(_write_log, log_path, rows)
            say(
                f"{name}: step {step}/{steps} loss {loss:.3f} validation {measured[0]:.3f} greedy action {measured[1]:.0%} "
                f"{rate:.0f} samples/s, {(steps - step) * batch / rate / 60:.1f} min left"
            )
        if step % BLOCK == 0 and (time.time() - saved > 60 or step == steps):
            facts = {"step": step, "seconds": before + time.time() - started, "identity": identity}
            ranks.alone(weights.save_training, checkpoint, learner.model, learner.optimiser, facts)
            saved = time.time()
    facts = {"identity": identity, "step": steps, "seconds": f"{before + time.time() - started:.0f}"}
    ranks.alone(network.save, learner.model.cpu(), final, _metadata(lesson) | facts)
    ranks.alone(checkpoint.unlink, missing_ok=True)
    ranks.wait()
    return final


def _metadata(lesson: Lesson) -> dict:
    """What stands beside the weights, so that they can be used without the lesson."""
    stream, stage = lesson.stream, lesson.stage
    return {
        "agent": lesson.agent,
        "stage": stage,
        "experiment": lesson.experiment,
        "voxel": stream.voxel(stage),
        "source": stream.source(stage),
        "contrast": stream.contrast,
        "interpolation": stream.interpolation,
        "range": " ".join(f"{x:g}" for x in stream.range(lesson.experiment, stage)),
    }
