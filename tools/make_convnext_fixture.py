#!/usr/bin/env python3
"""Tiny random-weight DINOv3-ConvNeXt checkpoint in the real Hugging Face layout + golden tensors, for parity tests.

  python tools/make_convnext_fixture.py --out fixtures                      # variant 0, seed 0 (the documented base)
  python tools/make_convnext_fixture.py --out fixtures --seed 3 --variant 2 # other widths / depths / sizes

Writes the folder dinov3_convnext-s{seed}-v{variant} with
  config.json, preprocessor_config.json, model.safetensors, head.safetensors
  input_0.png, input_1.png, input_0.jpg (+ its decoded png)
  golden.safetensors   pixel_values, stage.{i}.out [n,c,h,w], stage.{i}.downsample.out, stage.{i}.layer.{j}.out,
                       last_hidden_state [n,1+h*w,c], pooler_output, native.*, head.features/logit/score
  golden.json, MANIFEST.json
Everything runs in float32 on one CPU thread. Variants draw sizes that are not multiples of 32 as well.
"""
import argparse
import hashlib
import json
import math
import os
import random
import shutil

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1",
                  TRANSFORMERS_VERBOSITY="error")
import numpy as np
import safetensors
import torch
import transformers
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel, DINOv3ViTImageProcessor

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
if not torch.cuda.is_available():  # a CUDA wheel on a machine without a GPU: never ask the driver anything
    torch.cuda.is_current_stream_capturing = lambda: False
transformers.utils.logging.disable_progress_bar()

FAMILY = "dinov3_convnext"
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "safetensors": safetensors.__version__}


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


def sign_image(width, height, seed):
    """A deterministic 'road sign' picture: gradient, noise, diamond, stripes, cones."""
    noise = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.stack([90 + 110 * y / height, 120 + 60 * x / width, 200 - 120 * y / height], -1)
    pixels += noise.randint(-12, 13, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    cx, cy, s = width * 0.45, height * 0.4, min(width, height) * 0.3
    draw.polygon([(cx, cy - s), (cx + s, cy), (cx, cy + s), (cx - s, cy)], fill=(255, 140, 0), outline=(0, 0, 0))
    for k in range(3):
        ly = cy + (k - 1) * s * 0.3
        draw.line([(cx - s * 0.5, ly), (cx + s * 0.5, ly)], fill=(0, 0, 0), width=max(1, int(s * 0.1)))
    for k in range(3):
        bx = width * (0.1 + 0.3 * k + 0.05 * (seed % 3))
        draw.polygon([(bx, height * 0.95), (bx + width * 0.1, height * 0.95), (bx + width * 0.05, height * 0.65)],
                     fill=(240, 70 + 30 * k, 10))
    return image


@torch.no_grad()
def randomize(model, seed):
    """Non-degenerate weights everywhere: biases, norms and layer scales all differ from their initial values."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        if name.endswith("gamma"):
            value = 0.4 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.1 * noise
        elif p.ndim == 1:
            value = 1 + 0.15 * noise  # norm weights
        else:
            value = noise * 1.4 / math.sqrt(p[0].numel())
        if name.startswith("model.stages.0.downsample_layers.0"):
            value = 0.02 * value  # a low-variance input to the first norm: a wrong epsilon shows
        p.copy_(value)


def draw_shape(seed, variant):
    """(hidden sizes, depths, (height, width)); variant 0 is fixed, any other is drawn from (seed, variant)."""
    if variant == 0:
        return [8, 16, 24, 32], [1, 2, 1, 1], (64, 96)
    r = random.Random(f"{seed}/{variant}/{FAMILY}")
    hidden = r.choice([[8, 12, 20, 36], [12, 24, 40, 48], [16, 24, 24, 40], [10, 14, 30, 34]])
    depths = r.choice([[2, 1, 3, 1], [1, 1, 2, 2], [1, 3, 1, 1], [2, 2, 2, 2]])
    return hidden, depths, (r.randint(40, 120), r.randint(40, 150))


class Tap:
    """Records the first output of chosen modules."""

    def __init__(self):
        self.tensors, self.handles = {}, []

    def add(self, module, name):
        def hook(_module, _args, out):
            self.tensors.setdefault(f"{name}.out", out.detach().clone())
        self.handles.append(module.register_forward_hook(hook))

    def close(self):
        for handle in self.handles:
            handle.remove()
        return self.tensors


def build(out, seed, variant):
    hidden, depths, size = draw_shape(seed, variant)
    config = DINOv3ConvNextConfig(hidden_sizes=hidden, depths=depths, layer_scale_init_value=1e-6, image_size=224)
    model = DINOv3ConvNextModel(config).eval()
    randomize(model, seed * 1000 + variant + 17)
    model.save_pretrained(out)
    processor = DINOv3ViTImageProcessor(size={"height": size[0], "width": size[1]})
    processor.save_pretrained(out)
    model = DINOv3ConvNextModel.from_pretrained(out, dtype=torch.float32).eval()

    images = [sign_image(131, 77, seed + 1), sign_image(70, 110, seed + 2)]
    for i, image in enumerate(images):
        image.save(os.path.join(out, f"input_{i}.png"))
    images[0].save(os.path.join(out, "input_0.jpg"), quality=92, subsampling=0)
    Image.open(os.path.join(out, "input_0.jpg")).convert("RGB").save(os.path.join(out, "input_0.jpg.decoded.png"))
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    native = torch.from_numpy(np.array(images[0].crop((0, 0, 101, 75)))).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (processor.image_mean, processor.image_std))
    native = (native - mean) / std

    tap = Tap()
    for i, stage in enumerate(model.model.stages):
        tap.add(stage, f"stage.{i}")
        tap.add(stage.downsample_layers[-1], f"stage.{i}.downsample")
        for j, layer in enumerate(stage.layers):
            tap.add(layer, f"stage.{i}.layer.{j}")
    with torch.no_grad():
        o = model(pixels)
        tensors = tap.close()
        on = model(native)
        g, width, d = torch.Generator().manual_seed(seed + 99), 32, hidden[-1]
        head = {"fc1.weight": torch.randn(width, 2 * d, generator=g) / math.sqrt(2 * d),
                "fc1.bias": 0.1 * torch.randn(width, generator=g),
                "fc2.weight": torch.randn(1, width, generator=g) / math.sqrt(width),
                "fc2.bias": 0.1 * torch.randn(1, generator=g)}
        features = torch.cat([o.pooler_output, o.last_hidden_state[:, 1:].mean(1)], -1)
        linear, gelu = torch.nn.functional.linear, torch.nn.functional.gelu
        logit = linear(gelu(linear(features, head["fc1.weight"], head["fc1.bias"])), head["fc2.weight"], head["fc2.bias"])
    save_file(head, os.path.join(out, "head.safetensors"))

    tensors |= {"pixel_values": pixels, "last_hidden_state": o.last_hidden_state, "pooler_output": o.pooler_output,
                "native.pixel_values": native, "native.last_hidden_state": on.last_hidden_state,
                "head.features": features, "head.logit": logit, "head.score": torch.sigmoid(logit)}
    tensors = {k: v.float().contiguous() for k, v in sorted(tensors.items())}
    save_file(tensors, os.path.join(out, "golden.safetensors"))
    write_json(os.path.join(out, "golden.json"), {
        "versions": VERSIONS, "tensors": {k: list(v.shape) for k, v in tensors.items()}, "family": FAMILY,
        "images": ["input_0.png", "input_1.png"], "size": size, "hidden_sizes": hidden, "depths": depths,
        "head": "gelu(erf) MLP on concat(CLS, mean of patch tokens) of last_hidden_state (after final norm); example only",
        "tolerance": 1e-4})


def hashes(folder):
    return {name: hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest()
            for name in sorted(os.listdir(folder)) if name != "MANIFEST.json"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", type=int, default=0)
    args = parser.parse_args()
    folder = os.path.join(args.out, f"{FAMILY}-s{args.seed}-v{args.variant}")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    torch.manual_seed(args.seed)
    build(folder, args.seed, args.variant)
    write_json(os.path.join(folder, "MANIFEST.json"), {"seed": args.seed, "variant": args.variant, "family": FAMILY,
                                                       "versions": VERSIONS, "sha256": hashes(folder)})
    print(folder)
