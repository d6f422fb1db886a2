#!/usr/bin/env python3
"""Exports models with roadcrew and holds the ONNX files to ONNX's own checker and to candle, in ONNX Runtime.

  bash scripts/check-onnx.sh ROADCREW_BINARY [MODEL ...]     (makes the environment, then runs this)

Without models: the embedded ones, every folder in tests/fixtures/models, and two variants of those with random weights
for what no fixture has (other activations, biases, poolings, patches, sizes, a calibration). For each, in f32 and f16:
  - onnx.checker.check_model(full_check=True), strict shape inference included;
  - batches of 5 and of 1 in ONNX Runtime against what candle says of the same pixels (`roadcrew export --check`);
  - for the fixtures, the logits that transformers computed when the fixture was made (golden.safetensors).
A difference counts as |a - b| / max(1, |b|), for logits; probabilities are compared as they are.
Prints a table, exits 1 if anything exceeds its tolerance.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures/models"
# f32: what the project promises. f16: its rounding is 2^-11 per value, and a network adds up many; the fixtures'
# random weights add up more than trained ones do.
TOLERANCE = {"f32": 1e-4, "f16": 1e-2}
BATCHES = (5, 1)


def variant(base, out, config, size, tensors, pooled):
    """A copy of a fixture with another configuration, size, some tensors and a head over `pooled` vectors."""
    out.mkdir()
    rng = np.random.default_rng(5)
    config = json.loads((FIXTURES / base / "config.json").read_text()) | config
    (out / "config.json").write_text(json.dumps(config))
    preparation = json.loads((FIXTURES / base / "preprocessor_config.json").read_text())
    preparation |= {"size": {"height": size[0], "width": size[1]}, "resample": 3}
    (out / "preprocessor_config.json").write_text(json.dumps(preparation))
    (out / "calibration.json").write_text('{"scale": 1.7, "shift": -0.3}')

    def normal(shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = load_file(FIXTURES / base / "model.safetensors")
    save_file(weights | {name: normal(shape) for name, shape in tensors.items()}, out / "model.safetensors")
    width = pooled * (config.get("hidden_size") or config["hidden_sizes"][-1])
    head = {"fc1.weight": (16, width), "fc1.bias": (16,), "fc2.weight": (1, 16), "fc2.bias": (1,)}
    save_file({name: normal(shape) for name, shape in head.items()}, out / "head.safetensors")
    return str(out)


def variants(folder):
    """Models for what the fixtures do not have."""
    vit = {f"layer.{i}.attention.k_proj.bias": (48,) for i in range(3)}
    vit["embeddings.patch_embeddings.weight"] = (48, 3, 16, 8)
    options = {"hidden_act": "gelu_new", "key_bias": True, "query_bias": False, "mlp_bias": False, "patch_size": [16, 8]}
    yield variant("dinov3-s0-v0", folder / "vit-variant", options, (70, 99), vit, 1)
    yield variant("dinov3_convnext-s0-v0", folder / "convnext-variant", {"hidden_act": "relu"}, (75, 101), {}, 3)


def export(binary, model, dtype, folder):
    """The ONNX file, what roadcrew said of it, and the tensors to compare with."""
    file, check = folder / f"{dtype}.onnx", folder / f"{dtype}.safetensors"
    command = [binary, "export", "--model", model, "--onnx", str(file), "--check", str(check), "--dtype", dtype,
               "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return file, json.loads(done.stdout), load_file(check)


def run(session, pixels, batch):
    """Logits and probabilities of all pictures, in batches of the given size."""
    parts = [session.run(["logits", "probability"], {"pixel_values": pixels[i:i + batch]})
             for i in range(0, len(pixels), batch)]
    return [np.concatenate(values) for values in zip(*parts)]


def relative(found, expected):
    assert found.shape == expected.shape and found.dtype == np.float32, (found.shape, found.dtype, expected.shape)
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def check_structure(file, summary):
    """ONNX's own opinion, and that the file is what roadcrew says it is."""
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(file)
    assert file.stat().st_size == summary["bytes"]
    assert {(o.domain, o.version) for o in model.opset_import} == {("", summary["opset"])}
    assert {p.key: p.value for p in model.metadata_props} == summary["metadata"]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return len(inferred.graph.node)


def check(binary, model, dtype, folder):
    """The largest differences of one file: candle's logits and probabilities, transformers' logits."""
    file, summary, expected = export(binary, model, dtype, folder)
    check_structure(file, summary)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == "batch", session.get_inputs()[0].shape
    worst = {"candle": 0.0, "probability": 0.0, "transformers": None}
    for batch in BATCHES:
        logits, probability = run(session, expected["pixel_values"], batch)
        worst["candle"] = max(worst["candle"], relative(logits, expected["logits"]))
        worst["probability"] = max(worst["probability"], relative(probability, expected["probability"]))
    golden = Path(model) / "golden.safetensors"
    if golden.is_file():
        golden = load_file(golden)
        logits, _ = run(session, golden["pixel_values"], len(golden["pixel_values"]))
        worst["transformers"] = relative(logits, golden["head.logit"].reshape(-1))
    return summary, worst


def check_all(binary, models):
    """Prints a line for each file; the number of those that differ too much."""
    failed = 0
    for model in models:
        for dtype, tolerance in TOLERANCE.items():
            with tempfile.TemporaryDirectory() as folder:
                summary, worst = check(binary, model, dtype, Path(folder))
            # Not `>`: a NaN must fail.
            bad = not all(value is None or value <= tolerance for value in worst.values())
            failed += bad
            cells = ["-" if value is None else f"{value:.1e}" for value in worst.values()]
            print(f"{Path(model).name:<23} {dtype:<4} {summary['bytes']:>9} {summary['nodes']:>6} {cells[0]:>8} "
                  f"{cells[1]:>12} {cells[2]:>13}{'  TOO FAR' if bad else ''}", flush=True)
    return failed


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    binary, models = sys.argv[1], sys.argv[2:]
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    print(f"{'model':<23} type {'bytes':>9} {'nodes':>6} {'candle':>8} {'probability':>12} {'transformers':>13}")
    with tempfile.TemporaryDirectory() as folder:
        if not models:
            models = ["embedded:screen", "embedded:confirm", *sorted(str(path) for path in FIXTURES.iterdir()),
                      *variants(Path(folder))]
        failed = check_all(binary, models)
    if failed:
        sys.exit(f"{failed} of {2 * len(models)} files differ by more than {TOLERANCE}")
    print(f"all within {TOLERANCE}")


if __name__ == "__main__":
    main()
