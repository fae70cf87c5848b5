"""Deep supervised learning: the training loop (Eq. 5), its checkpoints and its learning curve.

Imports torch, NumPy and the standard library only, so it runs on a bare GPU box. A run that was interrupted goes on
from its last checkpoint with the very same samples: the stream's seed is a function of the step.
"""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lib import mdp, network, rigid
from lib.augment import Stream, StreamSettings, TrainingPair
from lib.base import weights
from lib.base.errors import UserError

AGENTS = {"dsl": "difference", "dsl_two_channel": "two_channel", "dsl_three_channel": "three_channel"}
LOG_COLUMNS = (
    "step",
    "samples",
    "loss",
    "val_loss",
    "val_agreement",
    "val_regret",
    "learning_rate",
    "samples_per_second",
    "seconds",
)
BLOCK = 50  # steps between reseedings of the stream; checkpoints and log lines fall on multiples of it


@dataclass(frozen=True)
class TrainSettings:
    """The optimiser and the shape of the network."""

    samples: int = 3200  # training samples of a coarse network (the paper: 64,000 a pair, more than 5 M)
    fine_samples: int = 2400  # the same for the fine network
    heart_fine: bool = False  # also train a fine network for E2 (the paper did not)
    batch: int = 32  # samples per step (the paper: 32)
    optimiser: str = "adamw"  # adamw | rmsprop (the paper, no momentum)
    learning_rate: float = 3.0e-3  # (the paper: 6e-5)
    schedule: str = "cosine"  # cosine, with warm-up | step (the paper: x0.7 every 10,000 steps)
    warm_up: int = 50  # steps of linear warm-up
    weight_decay: float = 1.0e-3  # AdamW only
    value_weight: float = 0.05  # weight of the error common to all 12 actions; 1 is Eq. 5 as printed (the paper)
    padding: str = "mixed"  # network: valid (the paper) | mixed | same
    stem: str = "strided"  # network: pool (the paper) | strided
    filters: tuple[int, ...] = (16, 32, 32, 128, 128)  # network (the paper: 8, 32, 32, 128, 128)
    precision: str = "auto"  # auto (bf16 where the processor is fast at it) | bf16 | fp32
    validation_samples: int = 256  # samples of validation patients behind each point of the curve
    report_every: int = 50  # steps between lines of the log, a multiple of 50
    seed: int = 0


def device_for(name: str = "auto") -> torch.device:
    """The GPU where there is one, else the CPU; `AGENT_DEVICE` overrides."""
    name = os.environ.get("AGENT_DEVICE", name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def half_precision(settings_precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: on GPUs, and on CPUs with instructions for it."""
    if settings_precision != "auto":
        return settings_precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = torch.cpu  # Intel's matrix units, or AVX512-BF16 (Zen 4 and later: 1.6 times as many samples a second)
    return any(getattr(cpu, f"_is_{name}_supported", lambda: False)() for name in ("amx_tile", "avx512_bf16"))


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    if settings.schedule == "step":
        return settings.learning_rate * 0.7 ** (step // 10_000)
    warm = min(1.0, (step + 1) / max(1, min(settings.warm_up, steps // 5)))
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _optimiser(model, settings: TrainSettings):
    if settings.optimiser == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), settings.learning_rate, alpha=0.99, eps=1e-8, momentum=0.0)
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
    raise UserError(f"training.optimiser is {settings.optimiser!r}; use adamw or rmsprop.")


def q_loss(prediction: torch.Tensor, target: torch.Tensor, value_weight: float = 1.0) -> torch.Tensor:
    """Eq. 5, mean over samples and actions. The error splits into its mean over the actions (the state's value) and
    the rest (which action is better); only the rest decides a roll-out, so the first may be given less weight."""
    error = prediction - target
    common = error.mean(dim=1, keepdim=True)
    return (error - common).square().mean() + value_weight * common.square().mean()


class _Validation:
    """A fixed set of samples from the validation patients; how well the largest value picks the greedy action."""

    def __init__(self, pairs, stream_settings, experiment, stage, observation, n, device):
        stream = Stream(pairs, stream_settings, experiment, stage, observation, seed=991, device=device)
        parts = [stream.batch(min(64, n - a)) for a in range(0, n, 64)]
        self.x, self.q, v = (torch.cat(t) for t in zip(*parts, strict=False))
        residual = rigid.params_to_matrix(v)
        self.optimal, self.reward = mdp.greedy_actions(residual, 1e-4), mdp.rewards(residual)

    def measure(self, model, forward):
        model.eval()
        with torch.no_grad():
            q = torch.cat([forward(self.x[a : a + 64]) for a in range(0, len(self.x), 64)])
        model.train()
        best = q.argmax(1)
        rows = torch.arange(len(best))
        regret = self.reward.max(1).values - self.reward[rows, best]
        return (
            float((q - self.q).square().mean()),
            float(self.optimal[rows, best].float().mean()),
            float(regret.mean()),
        )


def _save_checkpoint(path, model, optimiser, step, seconds, identity):
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    weights.save(tensors, path, {"step": step, "seconds": seconds, "identity": identity})


def _load_checkpoint(path, model, optimiser, identity):
    """(step, seconds) to go on from; (0, 0) where there is no checkpoint of this very training."""
    if not Path(path).exists():
        return 0, 0.0
    tensors, meta = weights.load(path)
    if meta.get("identity") != identity:
        return 0, 0.0
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state: dict = {}
    parameters = list(model.parameters())
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:  # fused kernels read memory in the parameter's own (channels-last) order
                value = torch.empty_like(parameter).detach().copy_(value)
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(meta["step"]), float(meta["seconds"])


def _keep_log(path, step):
    """Rows of an earlier run's log up to `step`."""
    if not step or not Path(path).exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= step]


def _write_log(path, rows):
    temporary = Path(path).with_name(f".{os.getpid()}.{Path(path).name}")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def train(
    pairs: list[TrainingPair],
    validation: list[TrainingPair],
    stream_settings: StreamSettings,
    settings: TrainSettings,
    experiment: str,
    stage: str,
    agent: str,
    folder,
    name: str | None = None,
    device: str = "auto",
    say=print,
    loss_of=None,
    outputs: int = 12,
    mean=7.0,
    stream_of=Stream,
    change: str = "",
) -> Path:
    """Train one network; returns the path of its weights, `folder/<agent>_<stage>.safetensors`.

    agent: dsl (difference image) or dsl_two_channel. Beside the weights stand the learning curve `_log.csv` and, until
    it is done, a checkpoint. A finished network of the same identity is not trained again. `say` gets one line a report.
    For variants (lib.study.train_agent): `loss_of(prediction, targets, v)`, the number of `outputs` and their `mean` at the start,
    `stream_of` in place of `Stream`, and `change`, which tells the network's identity from the agent's.
    """
    if agent not in AGENTS:
        raise UserError(f"there is no agent {agent!r}; choose one of {', '.join(AGENTS)}.")
    folder, device = Path(folder), device_for(device)
    folder.mkdir(parents=True, exist_ok=True)
    name = name or f"{agent}_{stage}"
    final, log_path, checkpoint = (folder / f"{name}{end}" for end in (".safetensors", "_log.csv", ".checkpoint"))
    identity = f"{stream_settings}|{settings}|{experiment}|{stage}|{agent}|{sorted(p.id for p in pairs)}"
    identity += f"|{change}" if change else ""
    if final.exists() and weights.load(final)[1].get("identity") == identity:
        say(f"{name}: already trained, {final}")
        return final
    half = half_precision(settings.precision, device)
    torch.manual_seed(settings.seed)
    shape = network.NetworkSettings(
        stream_settings.window, AGENTS[agent], settings.padding, settings.stem, settings.filters, outputs
    )
    stream = stream_of(pairs, stream_settings, experiment, stage, AGENTS[agent], settings.seed, device)
    model = network.ActionValueNetwork(shape, mean).to(device).to(memory_format=torch.channels_last_3d).train()
    optimiser = _optimiser(model, settings)
    checks = _Validation(
        validation or pairs,
        stream_settings,
        experiment,
        stage,
        AGENTS[agent],
        settings.validation_samples,
        device,
    )

    def forward(x):
        x = x.to(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return model(x).float()

    samples = settings.samples if stage == "coarse" else settings.fine_samples
    steps = -(-samples // settings.batch)
    step, before = _load_checkpoint(checkpoint, model, optimiser, identity)
    rows, started, losses, saved = _keep_log(log_path, step), time.time(), [], time.time()
    first = step
    say(
        f"{name}: {samples:,} samples on {device.type}{' bf16' if half else ''}, from step {step} of {steps}; result in {final}"
    )
    while step < steps:
        if step % BLOCK == 0:
            stream.reseed(settings.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, step, steps)
        x, q, v = stream.batch(settings.batch)
        prediction = forward(x)
        loss = q_loss(prediction, q, settings.value_weight) if loss_of is None else loss_of(prediction, q, v)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        step += 1
        if step % settings.report_every == 0 or step == steps:
            seconds = time.time() - started
            measured = checks.measure(model, forward) if outputs == 12 else (float("nan"),) * 3
            rate = (step - first) * settings.batch / seconds
            mean_loss = float(torch.stack(losses).mean())
            values = (step, step * settings.batch, mean_loss, *measured, group["lr"], rate, before + seconds)
            rows.append(dict(zip(LOG_COLUMNS, (f"{x:.6g}" for x in values), strict=False)))
            _write_log(log_path, rows)
            losses.clear()
            say(
                f"{name}: step {step}/{steps} loss {mean_loss:.3f} validation {measured[0]:.3f} greedy action {measured[1]:.0%} "
                f"{rate:.0f} samples/s, {(steps - step) * settings.batch / rate / 60:.1f} min left"
            )
        if step % BLOCK == 0 and (time.time() - saved > 60 or step == steps):
            _save_checkpoint(checkpoint, model, optimiser, step, before + time.time() - started, identity)
            saved = time.time()
    meta = {
        "identity": identity,
        "agent": agent,
        "stage": stage,
        "experiment": experiment,
        "step": step,
        "seconds": f"{before + time.time() - started:.0f}",
        "voxel": stream_settings.voxel(stage),
        "source": stream_settings.source(stage),
        "contrast": stream_settings.contrast,
        "range": " ".join(f"{x:g}" for x in stream_settings.range(experiment, stage)),
    }
    network.save(model.cpu(), final, meta)
    checkpoint.unlink(missing_ok=True)
    return final
