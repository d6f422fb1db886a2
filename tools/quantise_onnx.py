#!/usr/bin/env python3
"""Makes an int8 graph of an f32 one: dynamic quantisation by onnxruntime.quantization.

  target/onnx-env/bin/python tools/quantise_onnx.py IN.onnx OUT.onnx [--per-channel] [--keep NODE ...]

Weights of MatMul and Gemm become int8, one scale per matrix; activations are quantised as they come. What the
file says of itself (metadata) stays, so a stage that runs it needs no more settings than before. The environment with
the pinned versions is made by scripts/check-onnx.sh (tools/requirements-onnx.txt).
"""
import argparse
import sys
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--per-channel", action="store_true", help="one scale per output channel")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NODE", help="nodes that stay in f32")
    options = parser.parse_args()
    if options.target.exists():
        sys.exit(f"{options.target} exists; remove it first")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Folds constants and infers shapes; the symbolic pass needs sympy and is not needed here.
        quant_pre_process(str(options.source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            options.target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=options.per_channel,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=options.keep,
        )
    said = {entry.key: entry.value for entry in onnx.load(options.source).metadata_props}
    model = onnx.load(options.target)
    said["quantisation"] = "int8 dynamic, per " + ("channel" if options.per_channel else "tensor")
    onnx.helper.set_model_props(model, {**{e.key: e.value for e in model.metadata_props}, **said})
    onnx.save(model, options.target)
    before, after = (path.stat().st_size / 1e6 for path in (options.source, options.target))
    print(f"{options.target}: {after:.1f} MB from {before:.1f} MB")


if __name__ == "__main__":
    main()
