"""ResNet-50 at 224 pixels on one GPU: a trial of ours beside plain loops over timm's, torchvision's and our network.

All train in bf16 (autocast, weights in 32 bits) with channels last and fused SGD, on uint8 images that are normalised
on the device, eagerly and compiled by torch.compile. They take turns within a round, and medians over rounds are
printed:

    trial            ``run_trial``: Lightning, metrics, reports, on one batch that stays on the device ("synthetic")
    trial, fed       the same on JPEGs of 500x375 that are decoded, cropped and flipped by our loader meanwhile
    loop, ours       our network in a plain loop by hand
    loop, timm       timm's resnet50 in the same loop
    loop, torchvision

What is timed are the steps from the warm-up's end on, between two waits for the device; nothing waits in between.

The bound is the memory's: a step of ResNet-50 moves more bytes than its arithmetic needs time for. Its convolutions put
out 11.1 million numbers per image. Each is moved about 18 times where every operation reads and writes its tensors
(convolution 2, batch norm 3, ReLU 2; backward 3, 5 and 4, less where there is no ReLU): 403 MB per image in bf16; with
ReLU fused into its neighbour, as a compiler does it, 362 MB. Bandwidth is that of a large copy on the same device,
measured first. So 100 % would be a device that does nothing but move these bytes.

    python benchmarks/gpu_resnet50.py [--batch 256] [--steps 60] [--rounds 3] [--images 2000]
    python benchmarks/gpu_resnet50.py --cpu-smoke     the same code at a tiny size on a CPU: its numbers mean nothing

Without a GPU it says so and ends with exit code 3.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from loading.photographs import make
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from expflow.architectures import build
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.prepare.build import prepare
from expflow.data.specs import FolderSpec
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import OneCycleSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, World, run_trial

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOVED = {"eager": 403e6, "compiled": 362e6}
"""Bytes per image of 224x224 pixels."""
RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-5
"""A rate at which noise teaches nothing and nothing overflows: speed alone is of interest."""
MODES = ("eager", "compiled")
Figure = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is measured, and at which size."""

    device: str
    batch: int
    size: int
    classes: int
    warm_up: int
    steps: int
    threads: int
    images: int

    @property
    def all_steps(self) -> int:
        """Steps of one training."""
        return self.warm_up + self.steps


CPU = Setting("cpu", batch=4, size=32, classes=10, warm_up=1, steps=2, threads=1, images=12)


def model_spec() -> ResNetSpec:
    """Our network: the same 25.6 million weights as the others' at 1,000 classes."""
    return ResNetSpec(name="resnet", layout="imagenet", depth=50)


def data_spec(setting: Setting) -> DataSpec:
    """What the networks are told of the images."""
    fields = {"image": FieldSpec((3, setting.size, setting.size), "uint8"), "label": FieldSpec((), "int64")}
    names = tuple(str(number) for number in range(setting.classes))
    return DataSpec(fields, names, {"train": setting.batch * setting.all_steps}, MEAN, STD)


def synthetic(setting: Setting) -> dict[str, Tensor]:
    """One batch of noise, on the device."""
    generator = torch.Generator().manual_seed(0)
    shape = (setting.batch, 3, setting.size, setting.size)
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return {
        "image": image.to(setting.device, memory_format=torch.channels_last),
        "label": torch.randint(0, setting.classes, (setting.batch,), generator=generator).to(setting.device),
        "valid": torch.ones(setting.batch, dtype=torch.bool, device=setting.device),
    }


class Synthetic(LightningDataModule):
    """The same batch, as often as an epoch has steps. A recipe names it ``gpu_resnet50:Synthetic``."""

    def __init__(self, **setting: Any) -> None:
        super().__init__()
        self.setting = Setting(**setting)
        self.data_spec = data_spec(self.setting)

    def train_dataloader(self) -> Any:
        """Batches that are on the device already."""
        return Repeated(synthetic(self.setting), self.setting.all_steps)


class Repeated:
    """``batch``, ``times`` times, each time as a mapping of its own."""

    def __init__(self, batch: dict[str, Tensor], times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (dict(self.batch) for _ in range(self.times))


def settle(device: str) -> None:
    """Wait until the device has done all it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass
class Watch:
    """Counts steps, and times those behind the warm-up."""

    setting: Setting
    done: int = 0
    began: float = 0.0
    seconds: float = 0.0

    def __call__(self) -> bool:
        """A step was asked for. As ``leave`` of a trial: it never has to."""
        self.done += 1
        if self.done in (self.setting.warm_up, self.setting.all_steps):
            settle(self.setting.device)
            self.seconds = time.perf_counter() - self.began
            self.began = time.perf_counter()
        return False

    @property
    def images_per_second(self) -> float:
        """Images per second behind the warm-up."""
        if self.done < self.setting.all_steps:
            raise SystemExit(f"{self.done} steps were made, {self.setting.all_steps} are needed: give more --images")
        return self.setting.batch * self.setting.steps / self.seconds


def recipe(data: Any, mode: str, epochs: int) -> Recipe:
    """The trial; nothing is saved or validated."""
    return Recipe(
        data=data,
        model=model_spec(),
        task=ClassificationSpec(name="classification"),
        loss=CrossEntropySpec(name="cross_entropy"),
        optimizer=SGDSpec(name="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, decay_norm_and_bias=True),
        schedule=OneCycleSpec(name="one_cycle"),
        trainer=Trainer(
            epochs=epochs,
            validate_every=epochs,
            precision="bf16-mixed",
            channels_last=True,
            compile=mode == "compiled",
            checkpoint={"every_seconds": None, "at_end": False},
        ),
    )


def trial(setting: Setting, mode: str, data: Any, root: Path | None, epochs: int) -> float:
    """Images per second of a trial."""
    watch = Watch(setting)
    world = World(threads=setting.threads, gpus=int(setting.device == "cuda"))
    run_trial(Attempt(recipe(data, mode, epochs), 0, root), world, lambda report: True, leave=watch)
    return watch.images_per_second


def trial_on_noise(setting: Setting, mode: str) -> float:
    """A trial on one batch that stays on the device."""
    data = UserComponent(name="gpu_resnet50:Synthetic", **setting.__dict__)
    return trial(setting, mode, data, None, 1)


@dataclass
class Fed:
    """A trial on JPEGs, prepared once."""

    folder: Path
    root: Path | None = None
    spec: FolderSpec | None = field(default=None)

    def __call__(self, setting: Setting, mode: str) -> float:
        """Images per second, decoding meanwhile."""
        if self.spec is None:
            self.spec = FolderSpec.model_validate(
                {
                    "name": "folder",
                    "path": make(self.folder, setting.images),
                    "stored": "original",
                    "image_size": setting.size,
                    "val_fraction": 0,
                    "test_fraction": 0,
                    "batch_size": setting.batch,
                    "last": "drop",
                    "train": {"random_resized_crop": {}, "flip": 0.5},
                }
            )
            self.root = prepare(self.spec, cache=self.folder / "cache").root
        epochs = -(-setting.all_steps // (setting.images // setting.batch))
        return trial(setting, mode, self.spec, self.root, epochs)


def loop(make_network: Callable[[Setting], nn.Module]) -> Callable[[Setting, str], float]:
    """A plain loop over a network."""

    def run(setting: Setting, mode: str) -> float:
        torch.manual_seed(0)
        network = make_network(setting).to(setting.device, memory_format=torch.channels_last).train()
        if mode == "compiled":
            network.compile()
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=setting.all_steps + 1)
        mean, std = (torch.tensor(channels, device=setting.device).view(-1, 1, 1) * 255 for channels in (MEAN, STD))
        total = torch.zeros((), device=setting.device)
        watch, batch = Watch(setting), synthetic(setting)
        for _ in range(setting.all_steps):
            with torch.autocast(setting.device, torch.bfloat16):
                scores = network((batch["image"] - mean) / std)
                loss = nn.functional.cross_entropy(scores, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
            watch()
        if not torch.isfinite(total):
            print("the loss of a plain loop is not finite")
        return watch.images_per_second

    return run


def ours(setting: Setting) -> nn.Module:
    """Our ResNet-50."""
    return build(model_spec(), data_spec(setting))


def timms(setting: Setting) -> nn.Module:
    """timm's ResNet-50."""
    import timm

    return timm.create_model("resnet50", pretrained=False, num_classes=setting.classes)


def torchvisions(setting: Setting) -> nn.Module:
    """torchvision's ResNet-50 (v1.5)."""
    from torchvision.models import resnet50

    return resnet50(weights=None, num_classes=setting.classes)


def bandwidth(setting: Setting) -> float:
    """Bytes per second that a large copy on the device reads and writes."""
    size = 2**30 if setting.device == "cuda" else 2**24
    source = torch.ones(size // 4, device=setting.device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        settle(setting.device)
        start = time.perf_counter()
        for _ in range(10):
            target.copy_(source)
        settle(setting.device)
        seconds.append(time.perf_counter() - start)
    return 10 * 2 * size / min(seconds[1:])


def measure(setting: Setting, modes: tuple[str, ...], rounds: int, folder: Path) -> dict[tuple[str, str], float]:
    """(contender, mode) -> images per second, the median of ``rounds`` in which all take turns."""
    contenders: dict[str, Callable[[Setting, str], float]] = {
        "trial": trial_on_noise,
        "trial, fed": Fed(folder),
        "loop, ours": loop(ours),
        "loop, timm": loop(timms),
        "loop, torchvision": loop(torchvisions),
    }
    speeds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for mode in modes:
            for name, run in contenders.items():
                speeds.setdefault((name, mode), []).append(run(setting, mode))
                torch.compiler.reset()
                gc.collect()
                if setting.device == "cuda":
                    torch.cuda.empty_cache()
                print(f"round {number + 1}, {mode}: {name} {speeds[name, mode][-1]:.1f} images/s", flush=True)
    return {key: statistics.median(values) for key, values in speeds.items()}


def show(setting: Setting, speeds: dict[tuple[str, str], float], modes: tuple[str, ...], speed: float) -> list[Figure]:
    """Print the table, and return the figures."""
    figures = list[Figure]()
    print(f"\n{setting.size} pixels, batches of {setting.batch}; copies move {speed / 1e12:.2f} TB/s")
    for mode in modes:
        bound = speed / (MOVED[mode] * (setting.size / 224) ** 2)
        print(f"{mode}: memory alone would allow {bound:.0f} images/s")
        for (name, other), value in speeds.items():
            if other == mode:
                print(f"  {name:<18} {value:9.1f} images/s  {value / bound:6.1%} of the bound")
        best = max(("loop, timm", "loop, torchvision"), key=lambda name: speeds[name, mode])
        mine, loop_of_mine = speeds["trial", mode], speeds["loop, ours", mode]
        overhead = loop_of_mine / mine
        print(f"  Lightning and all around it: {overhead:.3f} times the plain loop's time per step on the same network")
        figures += [
            _figure(f"resnet50_{mode}", mine, speeds[best, mode], f"{best.removeprefix('loop, ')}'s in a plain loop"),
            _figure(f"resnet50_{mode}_fed", speeds["trial, fed", mode], mine, "the same trial without loading"),
            {
                **_figure(f"resnet50_{mode}_overhead", overhead, 1.0, "the same network in a plain loop"),
                "unit": "times the time",
                "better": "lower",
            },
            _figure(f"resnet50_{mode}_of_bound", mine, bound, "what the memory's bandwidth allows"),
        ]
    return figures


def _figure(name: str, mine: float, peer: float, peer_name: str) -> Figure:
    return {
        "name": name,
        "ours": round(mine, 4),
        "peer": round(peer, 4),
        "peer_name": peer_name,
        "unit": "images/s",
        "better": "higher",
    }


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000, help="JPEGs that are made for the fed trial")
    parser.add_argument("--threads", type=int, default=0, help="threads that decode; by default all cores but one")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="by default both; --cpu-smoke: eager alone")
    parser.add_argument("--cpu-smoke", action="store_true")
    options = parser.parse_args()
    if not options.cpu_smoke and not torch.cuda.is_available():
        print("This machine has no GPU that torch can use, so there is nothing to measure here.", file=sys.stderr)
        raise SystemExit(3)
    setting, rounds, modes = CPU, 1, tuple(options.modes or MODES[:1])
    torch.set_num_threads(CPU.threads if options.cpu_smoke else torch.get_num_threads())
    if not options.cpu_smoke:
        threads = options.threads or max(1, (torch.get_num_threads() or 2) - 1)
        setting = Setting("cuda", options.batch, 224, 1000, 20, options.steps, threads, options.images)
        rounds, modes = options.rounds, tuple(options.modes or MODES)
        torch.backends.cudnn.benchmark = True
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {threads} decoding threads", flush=True)
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as temporary:
        speed = bandwidth(setting)
        speeds = measure(setting, modes, rounds, Path(temporary))
    print(json.dumps({"figures": show(setting, speeds, modes, speed)}))


if __name__ == "__main__":
    main()
