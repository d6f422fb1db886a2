#!/usr/bin/env python3
"""Tiny random-weight DINOv3 ViT checkpoints in the REAL Hugging Face layout + golden tensors, for numerical parity tests.

  python tools/make_fixtures.py --out tests/fixtures/models                      # variant 0, seed 0: dinov3, dinov3_gated
  python tools/make_fixtures.py --out hidden --seed 7 --variant 3                # other heads, layers, patches, registers, sizes
  python tools/make_fixtures.py --out tests/fixtures/models --verify             # rebuild, compare bytes (same CPU type only)

Everything runs in float32 on one CPU thread with eager attention.  golden.safetensors = tensors, golden.json = meta.
Variant 0 is the documented base.  Any other variant draws its dimensions from (seed, variant).
"""
import argparse, hashlib, json, math, os, random, shutil, sys, tempfile, warnings
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1",
                  HF_HUB_DISABLE_TELEMETRY="1", TRANSFORMERS_VERBOSITY="error")
warnings.filterwarnings("ignore")
import numpy as np, torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
import tokenizers, transformers, safetensors
torch.set_num_threads(1); torch.use_deterministic_algorithms(True)
if not torch.cuda.is_available():                                   # CUDA wheel on a CPU box: never ask the driver anything
    torch.cuda.is_current_stream_capturing = lambda: False
transformers.utils.logging.disable_progress_bar()
VERS = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__}

# ------------------------------------------------------------------------------------------------ helpers
def jdump(p, o):
    with open(p, "w") as f: json.dump(o, f, indent=1, ensure_ascii=False, sort_keys=False); f.write("\n")

def rng_for(seed, variant, fam): return random.Random(f"{seed}/{variant}/{fam}")

def sign_image(w, h, seed):
    """Deterministic 'road sign' picture: gradient, diamond, cones, stripes, noise."""
    r = np.random.RandomState(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    a = np.stack([90 + 110 * y / h, 120 + 60 * x / w, 200 - 120 * y / h], -1)
    a += r.randint(-12, 13, a.shape)
    im = Image.fromarray(a.clip(0, 255).astype(np.uint8)); d = ImageDraw.Draw(im)
    cx, cy, s = w * .45, h * .4, min(w, h) * .3
    d.polygon([(cx, cy - s), (cx + s, cy), (cx, cy + s), (cx - s, cy)], fill=(255, 140, 0), outline=(0, 0, 0))
    for k in range(3): d.line([(cx - s * .5, cy - s * .3 + k * s * .3), (cx + s * .5, cy - s * .3 + k * s * .3)], fill=(0, 0, 0), width=max(1, int(s * .1)))
    for k in range(3):
        bx = w * (.1 + .3 * k + .05 * (seed % 3)); d.polygon([(bx, h * .95), (bx + w * .1, h * .95), (bx + w * .05, h * .65)], fill=(240, 70 + 30 * k, 10))
    return im

@torch.no_grad()
def randomize(model, seed, logit_gain=6.0, small=()):
    """Non-degenerate weights everywhere: biases, norm weights, layer scales, tables all differ from their init."""
    g = torch.Generator().manual_seed(seed)
    N = lambda t: torch.randn(t.shape, generator=g)
    done = set()
    for name, p in sorted(model.named_parameters(), key=lambda kv: kv[0]):
        if id(p) in done: continue
        done.add(id(p)); n = name.lower()
        if "lambda1" in n: v = 0.4 + 0.2 * N(p)
        elif p.ndim == 1 and n.endswith("weight"): v = 1 + 0.15 * N(p)             # norm weights
        elif n.endswith("bias"): v = 0.1 * N(p)
        elif any(k in n for k in ("token", "embed_tokens", "shared", "wte", "positional", "pos_embed", "row_emb", "column_emb", "embed_positions")) and p.ndim >= 2 and "patch" not in n: v = 0.5 * N(p)
        elif "lm_head" in n: v = N(p) * logit_gain / math.sqrt(p.shape[-1])
        else: v = N(p) * 1.4 / math.sqrt(max(1, p[0].numel()))
        if any(k in n for k in small): v = 0.1 * v                     # low-variance inputs to the first norms: a wrong eps shows
        p.copy_(v.to(p.dtype))

def sha_dir(d):
    out = {}
    for root, _, fs in os.walk(d):
        for f in sorted(fs):
            if f == "MANIFEST.json": continue
            p = os.path.join(root, f); out[os.path.relpath(p, d)] = hashlib.sha256(open(p, "rb").read()).hexdigest()
    return dict(sorted(out.items()))

class Tap:
    """Record inputs/outputs of modules by forward hooks (one forward pass)."""
    def __init__(self): self.t, self.h = {}, []
    def add(self, m, name, inp=False):
        def hook(mod, args, kwargs, out):
            o = out[0] if isinstance(out, (tuple, list)) else getattr(out, "last_hidden_state", out)
            if f"{name}.out" in self.t: return                      # first call only
            self.t[f"{name}.out"] = o.detach().clone()
            if inp:
                x = args[0] if args else kwargs.get("hidden_states")
                self.t[f"{name}.in"] = x.detach().clone()
        self.h.append(m.register_forward_hook(hook, with_kwargs=True))
    def close(self):
        for h in self.h: h.remove()
        return self.t

def save_golden(d, tensors, meta):
    ts = {}
    for k, v in tensors.items():
        if v is None: continue
        v = torch.as_tensor(v).detach()
        ts[k] = (v.float() if v.is_floating_point() else v.to(torch.int64) if v.dtype != torch.uint8 else v).contiguous().clone()
    save_file(dict(sorted(ts.items())), os.path.join(d, "golden.safetensors"))
    meta = {"versions": VERS, "tensors": {k: list(v.shape) for k, v in sorted(ts.items())}, **meta}
    jdump(os.path.join(d, "golden.json"), meta)

# ------------------------------------------------------------------------------------------------ DINOv3
def build_dinov3(out, seed, variant, gated=False):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel, DINOv3ViTImageProcessor
    r = rng_for(seed, variant, "dinov3")
    heads, hd, layers, regs, size, patch = 4, 12, 3, 4, (64, 96), 16
    if variant:
        heads, hd = r.choice([(2, 16), (3, 8), (4, 20), (6, 8)]); layers = r.choice([2, 4, 5]); regs = r.choice([0, 1, 4, 7])
        patch = r.choice([8, 14, 16]); size = (patch * r.randint(3, 8), patch * r.randint(3, 8))
    hid = heads * hd
    cfg = DINOv3ViTConfig(hidden_size=hid, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=hid * (3 if gated else 4), patch_size=patch,
        image_size=224, num_register_tokens=regs, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu", key_bias=False, query_bias=True, value_bias=True,
        proj_bias=True, mlp_bias=True, layerscale_value=1.0, rope_theta=100.0, layer_norm_eps=1e-5, pos_embed_rescale=2.0, attn_implementation="eager")
    m = DINOv3ViTModel(cfg).eval(); randomize(m, seed * 1000 + variant + 11, small=("embeddings.",))
    m.save_pretrained(out)
    proc = DINOv3ViTImageProcessor(size={"height": size[0], "width": size[1]}); proc.save_pretrained(out)
    m = DINOv3ViTModel.from_pretrained(out, attn_implementation="eager", dtype=torch.float32).eval()
    ims = [sign_image(131, 77, seed + 1), sign_image(70, 110, seed + 2)]
    for i, im in enumerate(ims): im.save(os.path.join(out, f"input_{i}.png"))
    ims[0].save(os.path.join(out, "input_0.jpg"), quality=92, subsampling=0)
    Image.open(os.path.join(out, "input_0.jpg")).convert("RGB").save(os.path.join(out, "input_0.jpg.decoded.png"))
    pv = proc(images=ims, return_tensors="pt")["pixel_values"]
    tap = Tap(); tap.add(m.embeddings, "embeddings"); 
    for i, l in enumerate(m.model.layer):
        tap.add(l, f"layer.{i}"); tap.add(l.attention, f"layer.{i}.attention"); tap.add(l.mlp, f"layer.{i}.mlp")
    with torch.no_grad():
        o = m(pv); cos, sin = m.rope_embeddings(pv)
        native = torch.from_numpy(np.array(ims[0].crop((0, 0, patch * 5, patch * 4)))).permute(2, 0, 1)[None].float() / 255
        native = (native - torch.tensor(proc.image_mean).view(1, 3, 1, 1)) / torch.tensor(proc.image_std).view(1, 3, 1, 1)
        t = tap.close(); on = m(native)
        # example project head: LayerNorm-free MLP on [CLS ; mean(patch tokens)] -> 1 logit
        g = torch.Generator().manual_seed(seed + 99); h = 32
        head = {"fc1.weight": torch.randn(h, 2 * hid, generator=g) / math.sqrt(2 * hid), "fc1.bias": .1 * torch.randn(h, generator=g),
                "fc2.weight": torch.randn(1, h, generator=g) / math.sqrt(h), "fc2.bias": .1 * torch.randn(1, generator=g)}
        feat = torch.cat([o.pooler_output, o.last_hidden_state[:, 1 + regs:].mean(1)], -1)
        logit = torch.nn.functional.linear(torch.nn.functional.gelu(torch.nn.functional.linear(feat, head["fc1.weight"], head["fc1.bias"])), head["fc2.weight"], head["fc2.bias"])
    save_file(head, os.path.join(out, "head.safetensors"))
    save_golden(out, {"pixel_values": pv, "rope.cos": cos, "rope.sin": sin, "last_hidden_state": o.last_hidden_state, "pooler_output": o.pooler_output,
        "native.pixel_values": native, "native.last_hidden_state": on.last_hidden_state, "head.features": feat, "head.logit": logit, "head.score": torch.sigmoid(logit), **t},
        {"family": "dinov3_vit", "gated": gated, "images": ["input_0.png", "input_1.png"], "size": size,
         "head": "gelu(erf) MLP on concat(CLS, mean of patch tokens) of last_hidden_state (after final norm); example only", "tolerance": 1e-4})

FAMILIES = {"dinov3": build_dinov3, "dinov3_gated": lambda out, seed, variant: build_dinov3(out, seed, variant, gated=True)}

def build(out, seed, variant, only):
    for fam in only:
        d = os.path.join(out, f"{fam}-s{seed}-v{variant}"); shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
        torch.manual_seed(seed); np.random.seed(seed); random.seed(seed)
        FAMILIES[fam](d, seed, variant)
        size = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(d) for f in fs)
        jdump(os.path.join(d, "MANIFEST.json"), {"seed": seed, "variant": variant, "family": fam, "versions": VERS, "sha256": sha_dir(d)})
        print(f"{d}: {size/1024:.0f} KiB", flush=True)

if __name__ == "__main__":
    ap = argparse.ArgumentParser(); ap.add_argument("--out", required=True); ap.add_argument("--seed", type=int, default=0); ap.add_argument("--variant", type=int, default=0)
    ap.add_argument("--only", default=",".join(FAMILIES)); ap.add_argument("--verify", action="store_true"); a = ap.parse_args()
    only = a.only.split(",")
    if not a.verify: build(a.out, a.seed, a.variant, only); sys.exit(0)
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        build(tmp, a.seed, a.variant, only)
        for fam in only:
            n = f"{fam}-s{a.seed}-v{a.variant}"; x, y = sha_dir(os.path.join(a.out, n)), sha_dir(os.path.join(tmp, n))
            diff = [k for k in sorted(set(x) | set(y)) if x.get(k) != y.get(k)]; bad += len(diff); print(n, "IDENTICAL" if not diff else f"DIFFERS: {diff}")
    sys.exit(bool(bad))
