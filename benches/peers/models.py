"""Makes what is sent and what is computed, without downloads: models.py FOLDER

Two ViT/16 graphs with random weights from a fixed seed (Ti: 192 wide, S: 384 wide; both 12 blocks,
224x224, a batch of any size, one output behind a sigmoid), the request bodies of every peer's schema
from `data/good.jpg` and a broken copy of it, and `expected.json`, the right answer of each model.
Needs numpy, onnx, onnxruntime and Pillow: the environment of the peer `ref` has them.
"""

import base64
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
PICTURE = HERE / "data" / "good.jpg"
SIZES = {"vit_ti": (192, 3), "vit_s": (384, 6)}
DEPTH, PATCH, SIDE, MLP = 12, 16, 224, 4
# What the graph of vit_ti must say of the picture; another value means other weights.
VIT_TI = 0.64963


class Graph:
    """An ONNX graph that grows node by node; every method returns the name of its output."""

    def __init__(self, width, heads, seed=0):
        import numpy as np

        self.np, self.width, self.heads = np, width, heads
        self.random = np.random.default_rng(seed)
        self.nodes, self.values = [], []

    def constant(self, name, array):
        from onnx import numpy_helper

        self.values.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, name, *numbers):
        return self.constant(name, self.np.array(numbers, self.np.int64))

    def scalar(self, name, number):
        return self.constant(name, self.np.array(number, self.np.float32))

    def weight(self, name, shape, scale=0.02):
        values = (self.random.standard_normal(shape) * scale).astype(self.np.float32)
        return self.constant(name, values)

    def op(self, kind, inputs, output, **attributes):
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def norm(self, x, name):
        self.constant(name + ".g", self.np.ones(self.width, self.np.float32))
        self.constant(name + ".b", self.np.zeros(self.width, self.np.float32))
        inputs = [x, name + ".g", name + ".b"]
        return self.op("LayerNormalization", inputs, name + ".o", axis=-1, epsilon=1e-6)

    def linear(self, x, name, into, out):
        weight = self.weight(name + ".w", (into, out))
        bias = self.constant(name + ".bias", self.np.zeros(out, self.np.float32))
        return self.op("Add", [self.op("MatMul", [x, weight], name + ".mm"), bias], name + ".o")

    def embed(self):
        """Pixels to tokens: patches, a class token before them, positions."""
        d, tokens = self.width, (SIDE // PATCH) ** 2 + 1
        self.weight("pe.w", (d, 3, PATCH, PATCH))
        self.constant("pe.b", self.np.zeros(d, self.np.float32))
        kernel = {"kernel_shape": [PATCH, PATCH], "strides": [PATCH, PATCH]}
        x = self.op("Conv", ["pixels", "pe.w", "pe.b"], "pe", **kernel)
        x = self.op("Reshape", [x, self.ints("s3", 0, d, -1)], "pe.r")
        x = self.op("Transpose", [x], "pe.t", perm=[0, 2, 1])
        self.weight("cls", (1, 1, d))
        self.weight("pos", (1, tokens, d))
        zero, one = self.ints("zero1", 0), self.ints("one1", 1)
        batch = self.op("Slice", [self.op("Shape", ["pixels"], "shp"), zero, one, zero], "bsz")
        shape = self.op("Concat", [batch, self.ints("tail", 1, d)], "clsshape", axis=0)
        first = self.op("Expand", ["cls", shape], "clsx")
        return self.op("Add", [self.op("Concat", [first, x], "cat", axis=1), "pos"], "x0")

    def constants_of_blocks(self):
        tokens, d, per_head = (SIDE // PATCH) ** 2 + 1, self.width, self.width // self.heads
        self.ints("s_h", 0, tokens, 3, self.heads, per_head)
        self.ints("s_o", 0, tokens, d)
        for name, number in (("scale", per_head**-0.5), ("half", 0.5), ("sq2", 2**0.5), ("onef", 1.0)):
            self.scalar(name, number)
        for i in range(3):
            self.constant(f"i{i}", self.np.array(i, self.np.int64))

    def attend(self, x, p):
        d = self.width
        x = self.op("Reshape", [self.linear(self.norm(x, p + ".ln1"), p + ".qkv", d, 3 * d), "s_h"], p + ".r")
        x = self.op("Transpose", [x], p + ".rt", perm=[2, 0, 3, 1, 4])
        q, k, v = (self.op("Gather", [x, f"i{i}"], f"{p}.{s}", axis=0) for i, s in enumerate("QKV"))
        q = self.op("Mul", [q, "scale"], p + ".Qs")
        k = self.op("Transpose", [k], p + ".Kt", perm=[0, 1, 3, 2])
        weights = self.op("Softmax", [self.op("MatMul", [q, k], p + ".a")], p + ".as", axis=-1)
        x = self.op("Transpose", [self.op("MatMul", [weights, v], p + ".av")], p + ".avt", perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", [x, "s_o"], p + ".avr"), p + ".proj", d, d)

    def feed_forward(self, x, p):
        d = self.width
        x = self.linear(self.norm(x, p + ".ln2"), p + ".fc1", d, MLP * d)
        erf = self.op("Erf", [self.op("Div", [x, "sq2"], p + ".g1")], p + ".g2")
        x = self.op("Mul", [x, self.op("Add", [erf, "onef"], p + ".g3")], p + ".g4")
        return self.linear(self.op("Mul", [x, "half"], p + ".g5"), p + ".fc2", MLP * d, d)

    def block(self, x, number):
        p = f"b{number}"
        x = self.op("Add", [x, self.attend(x, p)], p + ".x1")
        return self.op("Add", [x, self.feed_forward(x, p)], p + ".x2")

    def finish(self, x):
        x = self.op("Gather", [self.norm(x, "lnf"), "i0"], "clsout", axis=1)
        self.op("Sigmoid", [self.linear(x, "head", self.width, 1)], "score")

    def model(self):
        import onnx
        from onnx import TensorProto, helper

        pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])
        score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B", 1])
        graph = helper.make_graph(self.nodes, "vit", [pixels], [score], self.values)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def write_graph(path, width, heads):
    import onnx

    graph = Graph(width, heads)
    x = graph.embed()
    graph.constants_of_blocks()
    for number in range(DEPTH):
        x = graph.block(x, number)
    graph.finish(x)
    onnx.save(graph.model(), path)


def write_bodies(folder, tag, jpeg):
    """The image as each peer wants it: `TAG.SCHEMA`."""
    text = base64.b64encode(jpeg).decode()
    triton = {"name": "image", "shape": [1, 1], "datatype": "BYTES"}
    # The binary form of the v2 protocol: a JSON head, then each string behind its length.
    raw = len(jpeg).to_bytes(4, "little") + jpeg
    head = json.dumps({"inputs": [{**triton, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    mlserver = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
    bodies = {
        "jpg": jpeg,
        "simple.json": {"image": text},
        "bentoml.json": {"images": [text]},
        "mlserver.json": {"inputs": [{**mlserver, "parameters": {"content_type": "str"}}]},
        "triton.json": {"inputs": [{**triton, "data": [text]}]},
        "triton.bin": head + raw,
        "triton.bin.head": str(len(head)).encode(),
    }
    for name, body in bodies.items():
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        (folder / f"{tag}.{name}").write_bytes(body)


def expect(folder):
    """What every model answers for the picture, by the code that the peers run."""
    answers = {"null0": 0.5, "null2": 0.5}
    os.environ["RACE_DATA"] = str(folder)
    sys.path.insert(0, str(HERE / "apps"))
    import work

    for name in SIZES:
        work.MODEL = name
        (answers[name],) = work.Model().predict([PICTURE.read_bytes()])
    return answers


def main():
    folder = pathlib.Path(sys.argv[1])
    if (folder / "expected.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, heads) in SIZES.items():
        write_graph(folder / f"{name}.onnx", width, heads)
    jpeg = PICTURE.read_bytes()
    write_bodies(folder, "good", jpeg)
    write_bodies(folder, "bad", jpeg[:2000] + b"\0" * 200)
    answers = expect(folder)
    if abs(answers["vit_ti"] - VIT_TI) > 1e-4:
        sys.exit(f"models: vit_ti answers {answers['vit_ti']} and should answer {VIT_TI}: its weights differ")
    (folder / "expected.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
