#!/usr/bin/env python3
"""Trains the two embedded default models, `screen` and `confirm`, on synthetic road scenes (CPU only).

  python tools/train_default.py prepare  --data DATA --cache CACHE [--splits a,b,..] [--limit 30000] [--jobs 2]
  python tools/train_default.py check    --model screen
  python tools/train_default.py train    --model screen --cache CACHE --work WORK --images 70000 [--workers 2] [--resume]
  python tools/train_default.py export   --model screen --work WORK --out OUT/screen [--cache CACHE]
  python tools/train_default.py evaluate --data DATA --models OUT [--golden 8] [--report OUT/scores.json]

DATA holds one folder a split (train_l0 .. train_l3, val_l1), each with images/*.jpg and labels.jsonl as `roadcrew scenes`
writes them. `prepare` decodes every image once, into one uint8 array a model resolution. `export` with --cache divides the
head's last layer by the temperature that suits the validation split best. `evaluate` reads the exported folders through
transformers alone, from the image files.

The network is transformers' DINOv3ConvNextModel (its own module holds the weights, so the names in model.safetensors are
the real ones) with an MLP head on concat(CLS, mean of patches, max over patches); `check` compares the faster
channels-last forward pass below with the stock one. Dense per-cell class predictions on three feature maps help the
training along and are dropped at export.

What a training step draws depends on (seed, step, worker) only, so a run can be interrupted and resumed at any step. A
resumed run may be given another --images: the schedules follow the share of it that is done.
"""
import argparse
import itertools
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

# One thread a process: with small batches OpenMP's barriers cost more than they bring; --workers adds processes.
# Keeping freed blocks (no mmap/munmap a tensor) saves most of the page faults. Both must be set before libc starts.
ENV = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592",
       "MALLOC_TOP_PAD_": "268435456", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
if __name__ == "__main__" and os.environ.get("MALLOC_TOP_PAD_") != ENV["MALLOC_TOP_PAD_"]:
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENV})

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel, DINOv3ViTImageProcessor

if not torch.cuda.is_available():  # a CUDA wheel on a machine without a GPU: never ask the driver anything
    torch.cuda.is_current_stream_capturing = lambda: False
torch.set_num_threads(1)
torch.set_flush_denormal(True)

MODELS = {
    "screen": {"size": (96, 160), "hidden": [24, 48, 96, 192], "depths": [1, 1, 3, 1]},
    "confirm": {"size": (128, 224), "hidden": [40, 80, 160, 256], "depths": [1, 2, 3, 1]},
}
HEAD_WIDTH, DROPOUT, LAYER_SCALE = 256, 0.2, 0.3
LEVELS = ["train_l0", "train_l1", "train_l2", "train_l3"]
# Share of each level by training progress (interpolated linearly): from easy scenes to the level of the gate.
CURRICULUM = [(0.0, (0.6, 0.4, 0.0, 0.0)), (0.25, (0.15, 0.85, 0.0, 0.0)), (0.5, (0.05, 0.8, 0.1, 0.05)),
              (0.75, (0.0, 0.85, 0.1, 0.05)), (1.0, (0.0, 0.95, 0.05, 0.0))]
AUX_WEIGHT = [(0.0, 1.0), (0.5, 0.5), (1.0, 0.15)]
AUX_POSITIVE = 4.0  # weight of an occupied cell in the dense loss
EXITS = (0.15, 0.85)  # the cascade's: below or above, the screen's answer stands
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def interpolate(table, x):
    xs = [p[0] for p in table]
    ys = np.array([np.atleast_1d(p[1]) for p in table], dtype=np.float64)
    return np.array([np.interp(x, xs, ys[:, k]) for k in range(ys.shape[1])])


# ------------------------------------------------------------------------------------------------------------ data
def read_labels(folder, limit=None):
    with open(Path(folder) / "labels.jsonl") as lines:
        return [json.loads(line) for line in itertools.islice(lines, limit)]


def image_path(folder, row):
    direct = Path(folder) / row["file"]
    return direct if direct.exists() else Path(folder) / "images" / row["file"]


def resize(image, size):
    """Antialiased bilinear, as the processor does it in float; its extra rounding costs about a level of 255."""
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def decode_range(job):
    folder, rows, first, outputs = job
    arrays = {size: np.load(path, mmap_mode="r+") for size, path in outputs.items()}
    for k, row in enumerate(rows):
        image = Image.open(image_path(folder, row)).convert("RGB")
        for size, array in arrays.items():
            array[first + k] = resize(image, size)


def prepare(args):
    cache = Path(args.cache)
    cache.mkdir(parents=True, exist_ok=True)
    sizes = [spec["size"] for spec in MODELS.values()]
    for split in args.splits.split(","):
        folder = Path(args.data) / split
        rows = read_labels(folder, args.limit)
        outputs = {size: cache / f"{split}-{size[0]}x{size[1]}.npy" for size in sizes}
        for size, path in outputs.items():
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(rows), *size, 3)).flush()
        chunk = 256
        jobs = [(folder, rows[i:i + chunk], i, outputs) for i in range(0, len(rows), chunk)]
        with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
            pool.map(decode_range, jobs, chunksize=1)
        width, height = Image.open(image_path(folder, rows[0])).size
        (cache / f"{split}.json").write_text(json.dumps({"width": width, "height": height, "rows": rows}))
        print(f"{split}: {len(rows)} images", flush=True)


# Labelled by the renderer, and no help in telling roadwork: not learned.
SCENERY = {"vehicle", "pedestrian", "traffic_sign", "billboard", "bin", "bollard", "kiosk"}


def cell_class(obj):
    return ("work:" if obj["roadwork"] else "other:") + obj["class"]


class Split:
    """Decoded images of one split, their labels, and per image an array of objects (class index, x0, y0, x1, y1 in 0..1)."""

    def __init__(self, cache, name, size, classes=None):
        meta = json.loads((Path(cache) / f"{name}.json").read_text())
        self.images = np.load(Path(cache) / f"{name}-{size[0]}x{size[1]}.npy", mmap_mode="r")
        self.rows = meta["rows"]
        self.labels = np.array([row["label"] for row in self.rows], dtype=np.float32)
        scale = np.array([meta["width"], meta["height"]] * 2, dtype=np.float32)
        self.objects = []
        for row in self.rows if classes else []:
            known = [o for o in row["objects"] if cell_class(o) in classes]
            self.objects.append([(classes[cell_class(o)], o["roadwork"], *(np.array(o["box"], np.float32) / scale)) for o in known])

    def __len__(self):
        return len(self.rows)


class LazySplits(dict):
    """Opens a level when it is first drawn from."""

    def __init__(self, opener):
        super().__init__()
        self.opener = opener

    def __missing__(self, level):
        self[level] = self.opener(level)
        return self[level]


def class_table(cache, splits):
    names = {cell_class(o) for s in splits for row in json.loads((Path(cache) / f"{s}.json").read_text())["rows"] for o in row["objects"] if o["class"] not in SCENERY}
    return {name: i + 1 for i, name in enumerate(sorted(names))}  # 0: any roadwork object


def draw_batch(splits, weights, count, rng):
    """count images from the splits by weight, half of them mirrored: (uint8 [n,h,w,3], labels, objects)."""
    images, labels, objects = [], [], []
    for level in rng.choice(len(weights), count, p=weights / weights.sum()):
        split = splits[level]
        i = rng.integers(len(split))
        image, boxes = split.images[i], split.objects[i]
        if rng.random() < 0.5:
            image = image[:, ::-1]
            boxes = [(c, work, 1 - x1, y0, 1 - x0, y1) for c, work, x0, y0, x1, y1 in boxes]
        images.append(image)
        labels.append(split.labels[i])
        objects.append(boxes)
    return np.stack(images), np.array(labels, np.float32), objects


def jitter(x, rng):
    """Brightness, contrast and colour of a float batch [n,h,w,3] in 0..1; two images of three are changed."""
    n = len(x)
    on = torch.from_numpy((rng.random((n, 1, 1, 1)) < 0.67).astype(np.float32))
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.12, (n, 1, 1, 1)) + rng.normal(0, 0.03, (n, 1, 1, 3))).astype(np.float32))
    shift = torch.from_numpy(rng.normal(0, 0.03, (n, 1, 1, 1)).astype(np.float32))
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast = torch.from_numpy(np.exp(rng.normal(0, 0.1, (n, 1, 1, 1))).astype(np.float32))
    scale = 1 + on * (gain * contrast - 1)
    offset = on * (mean * gain * (1 - contrast) + shift)
    return (x * scale + offset).clamp_(0, 1)


def cell_targets(objects, height, width, classes):
    """Multi-label occupancy of the cells of a feature map; every object marks at least one cell."""
    target = np.zeros((len(objects), height, width, classes), np.float32)
    for n, boxes in enumerate(objects):
        for c, work, x0, y0, x1, y1 in boxes:
            cx, cy = min(int((x0 + x1) / 2 * width), width - 1), min(int((y0 + y1) / 2 * height), height - 1)
            left, right = min(int(x0 * width + 0.5), cx), max(int(x1 * width + 0.5), cx + 1)
            top, bottom = min(int(y0 * height + 0.5), cy), max(int(y1 * height + 0.5), cy + 1)
            target[n, top:bottom, left:right, c] = 1
            if work:
                target[n, top:bottom, left:right, 0] = 1
    return torch.from_numpy(target)


# --------------------------------------------------------------------------------------------------------- network
def patches_to_linear(x, conv):
    """A convolution whose kernel equals its stride, as one matrix product; x is [n,h,w,c]."""
    k = conv.stride[0]
    n, h, w, c = x.shape
    x = x[:, :h // k * k, :w // k * k].reshape(n, h // k, k, w // k, k, c).transpose(2, 3).reshape(n, h // k, w // k, k * k * c)
    return F.linear(x, conv.weight.permute(0, 2, 3, 1).reshape(conv.out_channels, -1), conv.bias)


def layer_norm(x, norm):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def block(x, layer):
    conv = layer.depthwise_conv
    y = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=3, groups=conv.groups).permute(0, 2, 3, 1)
    y = layer.pointwise_conv2(F.gelu(layer.pointwise_conv1(layer_norm(y, layer.layer_norm))))
    return torch.addcmul(x, y, layer.gamma)


def backbone_maps(model, x):
    """The stages' outputs [n,h,w,c] of a DINOv3ConvNextModel; x is the normalised image [n,h,w,3]."""
    maps = []
    for i, stage in enumerate(model.model.stages):
        first, second = stage.downsample_layers
        x = layer_norm(patches_to_linear(x, first), second) if i == 0 else patches_to_linear(layer_norm(x, first), second)
        for layer in stage.layers:
            x = block(x, layer)
        maps.append(x)
    return maps


class Detector(nn.Module):
    """Backbone, head, and the auxiliary cell classifiers of the last three stages."""

    def __init__(self, spec, aux_classes=0):
        super().__init__()
        hidden = spec["hidden"]
        config = DINOv3ConvNextConfig(hidden_sizes=list(hidden), depths=list(spec["depths"]), layer_scale_init_value=LAYER_SCALE)
        self.backbone = DINOv3ConvNextModel(config)
        self.head = nn.ModuleDict({"fc1": nn.Linear(3 * hidden[-1], HEAD_WIDTH), "fc2": nn.Linear(HEAD_WIDTH, 1)})
        self.aux = nn.ModuleList([nn.Sequential(nn.LayerNorm(c), nn.Linear(c, aux_classes)) for c in hidden[1:]] if aux_classes else [])
        for name, p in self.backbone.named_parameters():
            if p.ndim > 1:
                nn.init.trunc_normal_(p, std=1 / math.sqrt(p[0].numel()))
        for aux in self.aux:
            nn.init.zeros_(aux[1].weight)
            nn.init.constant_(aux[1].bias, -4)
        nn.init.zeros_(self.head["fc2"].weight)
        nn.init.zeros_(self.head["fc2"].bias)

    def forward(self, x):
        """Logits [n], and the cell logits of the last three stages."""
        maps = backbone_maps(self.backbone, (x - MEAN) / STD)
        norm = self.backbone.layer_norm
        cls = layer_norm(maps[-1].mean((1, 2)), norm)
        patches = layer_norm(maps[-1], norm).flatten(1, 2)
        features = torch.cat([cls, patches.mean(1), patches.amax(1)], -1)
        hidden = F.dropout(F.gelu(self.head["fc1"](features)), DROPOUT, self.training)
        return self.head["fc2"](hidden)[:, 0], [aux(m) for aux, m in zip(self.aux, maps[1:])]

    @torch.no_grad()
    def logits(self, images, batch=32):
        """Logits of a uint8 array [n,h,w,3]."""
        self.eval()
        return torch.cat([self(torch.from_numpy(np.array(images[i:i + batch])).float() / 255)[0] for i in range(0, len(images), batch)]).numpy()


def stock_logits(model, head, pixels):
    """The same answer by transformers' own forward pass: normalised pixels [n,3,h,w] to logits [n]."""
    out = model(pixels)
    patches = out.last_hidden_state[:, 1:]
    features = torch.cat([out.pooler_output, patches.mean(1), patches.amax(1)], -1)
    hidden = F.gelu(F.linear(features, head["fc1.weight"], head["fc1.bias"]))
    return F.linear(hidden, head["fc2.weight"], head["fc2.bias"])[:, 0]


def macs(spec):
    """Multiply-accumulates of one image, backbone only."""
    (h, w), total, previous = spec["size"], 0, 3
    for i, (c, depth) in enumerate(zip(spec["hidden"], spec["depths"])):
        k = 4 if i == 0 else 2
        h, w = h // k, w // k
        total += h * w * (k * k * previous * c + depth * (49 * c + 8 * c * c))
        previous = c
    return total


def check(args):
    spec = MODELS[args.model]
    torch.manual_seed(0)
    net = Detector(spec, 4).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        x = torch.rand(2, *spec["size"], 3)
        pixels = ((x - MEAN) / STD).permute(0, 3, 1, 2).contiguous()
        stock = stock_logits(net.backbone, {k: v for k, v in net.head.state_dict().items()}, pixels)
        difference = (net(x)[0] - stock).abs().max().item()
    sizes = [sum(p.numel() for p in m.parameters()) for m in (net.backbone, net.head)]
    print(f"{args.model}: {macs(spec) / 1e6:.1f} MMAC, backbone {sizes[0]} + head {sizes[1]} parameters, "
          f"{(2 * sizes[0] + 4 * sizes[1]) / 1e6:.2f} MB exported, largest difference to the stock forward pass {difference:.1e}")
    assert difference < 1e-4
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    images = torch.rand(args.batch, *spec["size"], 3)
    for k in range(6):
        if k == 1:
            start, cpu = time.time(), time.process_time()
        train_step(net, optimizer, images, torch.ones(args.batch), [[(1, True, 0.1, 0.1, 0.3, 0.3)]] * args.batch, 1.0)
    count = 5 * args.batch
    print(f"training: {count / (time.time() - start):.1f} images/s, {1000 * (time.process_time() - cpu) / count:.1f} ms of CPU an image")


# -------------------------------------------------------------------------------------------------------- training
def learning_rate(peak, step, steps):
    """Warm-up, plateau up to 45 %, cosine to 0. The plateau lets a resumed run end earlier or later than planned."""
    warm, progress = min(1.0, (step + 1) / 100), step / steps
    return peak * warm * (1 if progress < 0.45 else 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.45) / 0.55))))


def train_step(net, optimizer, x, labels, objects, aux_weight, workers=1):
    net.train()
    optimizer.zero_grad()
    logits, cells = net(x)
    loss = main = F.binary_cross_entropy_with_logits(logits, labels)
    for cell in cells:
        target = cell_targets(objects, *cell.shape[1:])
        dense = F.binary_cross_entropy_with_logits(cell, target, weight=1 + (AUX_POSITIVE - 1) * target, reduction="sum")
        loss = loss + aux_weight * dense / (cell.shape[0] * cell.shape[1] * cell.shape[2])
    loss.backward()
    if workers > 1:
        grads = [p.grad for p in net.parameters()]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= workers
        for g, part in zip(grads, flat.split([g.numel() for g in grads])):
            g.copy_(part.view_as(g))
    nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    optimizer.step()
    return main.item()


def parameter_groups(net, decay):
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def train_worker(rank, args):
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{Path(args.work).resolve()}/{args.model}.rendezvous", rank=rank,
                                world_size=args.workers)
    spec, work = MODELS[args.model], Path(args.work)
    checkpoint = work / f"{args.model}.pt"
    classes = class_table(args.cache, LEVELS[:2])
    splits = LazySplits(lambda level: Split(args.cache, LEVELS[level], spec["size"], classes))
    val = Split(args.cache, args.val, spec["size"]) if rank == 0 else None
    torch.manual_seed(args.seed)
    net, ema = Detector(spec, len(classes) + 1), Detector(spec, len(classes) + 1)
    optimizer = torch.optim.AdamW(parameter_groups(net, args.weight_decay), args.lr, betas=(0.9, 0.98), fused=True)
    step, trained = 0, 0.0
    if args.resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, trained = state["step"], state["seconds"]
    else:
        ema.load_state_dict(net.state_dict())
    steps = args.images // args.batch
    log = open(work / f"{args.model}.log", "a") if rank == 0 else None
    start, saved, losses = time.time(), time.time(), []

    def note(line):
        print(line, flush=True)
        print(line, file=log, flush=True)

    def save():
        done = trained + time.time() - start
        state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                 "seconds": done, "spec": spec, "classes": classes, "args": vars(args)}
        torch.save(state, f"{checkpoint}.tmp")
        os.replace(f"{checkpoint}.tmp", checkpoint)
        scores = binary_scores(sigmoid(ema.logits(val.images[:args.watch])), val.labels[:args.watch])
        note(f"{args.model} step {step}/{steps} images {step * args.batch} {done / 60:.1f} min "
             f"lr {learning_rate(args.lr, step, steps):.2e} loss {np.mean(losses):.4f} "
             f"val accuracy {scores['accuracy']:.4f} mcc {scores['mcc']:.4f} logloss {scores['logloss']:.4f}")
        losses.clear()

    if rank == 0:
        note(f"{args.model} from step {step} of {steps}, batch {args.batch}, {args.workers} workers, seed {args.seed}")

    while step < (args.stop_at or steps):
        rng = np.random.default_rng([args.seed, step, rank])
        torch.manual_seed((args.seed * 1_000_003 + step) * 16 + rank)
        images, labels, objects = draw_batch(splits, interpolate(CURRICULUM, step / steps), args.batch // args.workers, rng)
        x = jitter(torch.from_numpy(images).float() / 255, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args.lr, step, steps)
        losses.append(train_step(net, optimizer, x, torch.from_numpy(labels), objects,
                                 interpolate(AUX_WEIGHT, step / steps)[0], args.workers))
        step += 1
        if rank == 0:
            decay = min(args.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_([p.data for p in ema.parameters()], [p.data for p in net.parameters()], 1 - decay)
            if time.time() - saved > 60 * args.save_minutes or step == (args.stop_at or steps):
                save()
                saved = time.time()
    if args.workers > 1:
        dist.barrier()
        dist.destroy_process_group()


def train(args):
    Path(args.work).mkdir(parents=True, exist_ok=True)
    (Path(args.work) / f"{args.model}.rendezvous").unlink(missing_ok=True)
    if args.workers == 1:
        return train_worker(0, args)
    torch.multiprocessing.start_processes(train_worker, (args,), nprocs=args.workers, start_method="spawn")


# ------------------------------------------------------------------------------------------------------------ scores
def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def binary_scores(p, labels):
    p, y = np.asarray(p, np.float64), np.asarray(labels) > 0.5
    said = p > 0.5
    tp, tn = float((said & y).sum()), float((~said & ~y).sum())
    fp, fn = float((said & ~y).sum()), float((~said & y).sum())
    q = np.clip(np.where(y, p, 1 - p), 1e-7, 1)
    edges = np.clip((p * 10).astype(int), 0, 9)
    ece = sum(abs(p[edges == b].mean() - y[edges == b].mean()) * (edges == b).mean() for b in range(10) if (edges == b).any())
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {"accuracy": (tp + tn) / len(y), "mcc": (tp * tn - fp * fn) / root if root else 0.0, "recall": tp / max(1, tp + fn),
            "specificity": tn / max(1, tn + fp), "logloss": float(-np.log(q).mean()), "ece": float(ece)}


def best_temperature(z, labels):
    """The temperature that minimises the log loss of sigmoid(z / t)."""
    grid = np.exp(np.linspace(math.log(0.4), math.log(2.5), 121))
    return float(min(grid, key=lambda t: binary_scores(sigmoid(np.asarray(z) / t), labels)["logloss"]))


# ------------------------------------------------------------------------------------------------------------ export
def write_model(net, spec, folder, temperature):
    """The Hugging Face folder: backbone with transformers' names, processor, head; weights in f16."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    backbone = DINOv3ConvNextModel(net.backbone.config)
    backbone.load_state_dict(net.backbone.state_dict())
    backbone.half().save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": spec["size"][0], "width": spec["size"][1]}).save_pretrained(folder)
    head = {k: v.detach().float().clone().contiguous() for k, v in net.head.state_dict().items()}
    head["fc2.weight"] /= temperature
    head["fc2.bias"] /= temperature
    save_file({k: v.half() for k, v in head.items()}, folder / "head.safetensors", metadata={"format": "pt", "features": "cls,mean,max"})


def export(args):
    state = torch.load(Path(args.work) / f"{args.model}.pt", weights_only=False)
    net = Detector(state["spec"], len(state["classes"]) + 1)
    net.load_state_dict(state["ema"])
    temperature = 1.0
    if args.cache:
        val = Split(args.cache, args.val, state["spec"]["size"])
        logits = net.logits(val.images)
        temperature = best_temperature(logits, val.labels)
        before, after = (binary_scores(sigmoid(logits / t), val.labels) for t in (1.0, temperature))
        print(f"temperature {temperature:.3f}: log loss {before['logloss']:.4f} to {after['logloss']:.4f}, "
              f"ECE {before['ece']:.4f} to {after['ece']:.4f}, accuracy {after['accuracy']:.4f}")
    write_model(net, state["spec"], Path(args.out), temperature)
    size = sum(f.stat().st_size for f in Path(args.out).iterdir())
    print(f"{args.out}: {size / 1e6:.2f} MB, step {state['step']}, {state['step'] * state['args']['batch']} images, {state['seconds'] / 60:.1f} min")


def exported_logits(folder, paths, batch=32):
    """Logits of image files by an exported folder, through transformers only, in f32."""
    model = DINOv3ConvNextModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = DINOv3ViTImageProcessor.from_pretrained(folder)
    head = {k: v.float() for k, v in load_file(Path(folder) / "head.safetensors").items()}
    result = []
    with torch.no_grad():
        for i in range(0, len(paths), batch):
            images = [Image.open(p).convert("RGB") for p in paths[i:i + batch]]
            result.append(stock_logits(model, head, processor(images=images, return_tensors="pt")["pixel_values"]))
    return torch.cat(result).numpy()


def slices(rows):
    """Masks by kind of image: every hard-negative kind, and images with and without roadwork."""
    names = {}
    for i, row in enumerate(rows):
        hard = row.get("hard_negative")
        kinds = [hard] if isinstance(hard, str) and hard else hard if isinstance(hard, list) else ["hard_negative"] if hard else []
        kinds += sorted({"has " + cell_class(o) for o in row["objects"] if o["class"] not in SCENERY})
        for kind in ["roadwork" if row["label"] else "no roadwork", *kinds]:
            names.setdefault(kind, np.zeros(len(rows), bool))[i] = True
    return names


def evaluate(args):
    folder, models = Path(args.data) / args.val, Path(args.models)
    rows = read_labels(folder)
    paths = [image_path(folder, row) for row in rows]
    labels = np.array([row["label"] for row in rows])
    p = {name: sigmoid(exported_logits(models / name, paths)) for name in MODELS}
    sure = (p["screen"] < EXITS[0]) | (p["screen"] > EXITS[1])
    p["cascade"] = np.where(sure, p["screen"], p["confirm"])
    report = {"images": len(rows), "exits": EXITS, "answered_by_screen": float(sure.mean()), "to_confirm": float((~sure).mean()),
              "scores": {name: binary_scores(q, labels) for name, q in p.items()}, "slices": {}}
    for kind, mask in sorted(slices(rows).items()):
        report["slices"][kind] = {"images": int(mask.sum()), **{n: float(((q > 0.5) == labels)[mask].mean()) for n, q in p.items()}}
    print(json.dumps(report, indent=1))
    if args.report:
        Path(args.report).write_text(json.dumps(report, indent=1) + "\n")
    if args.golden:
        (models / "golden").mkdir(exist_ok=True)
        chosen = paths[:args.golden]
        for path in chosen:
            shutil.copy(path, models / "golden" / path.name)
        for name in MODELS:
            logits = exported_logits(models / name, chosen)
            items = [{"file": f"golden/{path.name}", "label": int(y), "logit": float(z), "p": float(sigmoid(z))}
                     for path, y, z in zip(chosen, labels, logits)]
            (models / f"golden_{name}.json").write_text(json.dumps({"model": name, "images": items}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(function, *options):
        sub = commands.add_parser(function.__name__)
        sub.set_defaults(run=function)
        for name, settings in options:
            sub.add_argument(name, **settings)

    model = ("--model", {"choices": list(MODELS), "required": True})
    val = ("--val", {"default": "val_l1"})
    data = ("--data", {"required": True})
    cache = ("--cache", {"required": True})
    work = ("--work", {"required": True})
    command(prepare, data, cache, ("--splits", {"default": ",".join([*LEVELS, "val_l1"])}), ("--limit", {"type": int}),
            ("--jobs", {"type": int, "default": 2}))
    command(check, model, ("--batch", {"type": int, "default": 16}))
    command(train, model, cache, work, val, ("--images", {"type": int, "required": True}), ("--batch", {"type": int, "default": 32}),
            ("--lr", {"type": float, "default": 4e-3}), ("--weight-decay", {"type": float, "default": 0.05}),
            ("--ema", {"type": float, "default": 0.998}), ("--workers", {"type": int, "default": 1}),
            ("--seed", {"type": int, "default": 1}), ("--save-minutes", {"type": float, "default": 5}),
            ("--watch", {"type": int, "default": 500, "help": "validation images scored at every save"}), ("--resume", {"action": "store_true"}),
            ("--stop-at", {"type": int, "help": "end at this step of the schedule that --images sets; --resume may set another"}))
    command(export, model, work, val, ("--out", {"required": True}), ("--cache", {}))
    command(evaluate, data, val, ("--models", {"required": True}), ("--golden", {"type": int, "default": 0}), ("--report", {}))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
