"""The work, the same in every peer: bytes or base64 -> JPEG -> 224x224 -> ViT -> score.

Settings come from the environment; `peers.py` sets them. In words: one model of RACE_MODEL, which
`vit_ti` and `vit_s` take from RACE_DATA; `null0` answers at once and `null2` after 2 ms, without
looking at the image.
"""

import base64
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

MODEL = os.environ.get("RACE_MODEL", "vit_ti")
PORT = int(os.environ.get("RACE_PORT", "8080"))
MAX_BATCH = int(os.environ.get("RACE_MAX_BATCH", "8"))
MAX_WAIT_MS = float(os.environ.get("RACE_MAX_WAIT_MS", "5"))
WORKERS = int(os.environ.get("RACE_WORKERS", "1"))
THREADS = int(os.environ.get("RACE_THREADS", "2"))
DATA = os.environ.get("RACE_DATA", ".")
# A file to which every batch adds a line with its size; the fault probes count by it.
BATCH_LOG = os.environ.get("RACE_BATCH_LOG")

JPEG = b"\xff\xd8"


class Model:
    """One loaded model: `threads` of ONNX Runtime, and as many that decode."""

    def __init__(self, threads=THREADS):
        self.session = None
        if MODEL.startswith("null"):
            return
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(DATA, MODEL + ".onnx")
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.decoders = ThreadPoolExecutor(threads)
        self.session.run(None, {"pixels": np.zeros((1, 3, 224, 224), np.float32)})

    def predict(self, images):
        """Scores of images, each base64 or the bytes of a JPEG. Raises if one cannot be read."""
        if BATCH_LOG:
            with open(BATCH_LOG, "a") as log:
                log.write(f"{len(images)}\n")
        if self.session is None:
            if MODEL == "null2":
                time.sleep(0.002)
            return [0.5] * len(images)
        import numpy as np

        pixels = list(self.decoders.map(prepare, images)) if len(images) > 1 else [prepare(images[0])]
        (scores,) = self.session.run(None, {"pixels": np.ascontiguousarray(np.stack(pixels))})
        return [float(score) for score in scores[:, 0]]


def prepare(image):
    """An image as the model wants it: 3x224x224, -1 to 1."""
    import numpy as np
    from PIL import Image

    raw = not isinstance(image, str) and image[:2] == JPEG
    jpeg = image if raw else base64.b64decode(image)
    small = Image.open(io.BytesIO(jpeg)).convert("RGB").resize((224, 224), Image.BILINEAR)
    pixels = np.asarray(small, np.float32)
    return ((pixels * (1 / 255.0) - 0.5) * 2.0).transpose(2, 0, 1)
