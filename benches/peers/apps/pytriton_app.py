"""PyTriton: NVIDIA Triton in front of Python functions."""

import signal

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

import work


def instance():
    """One instance of the model, as the function that Triton calls."""
    model = work.Model()

    @batch
    def infer(image):
        scores = model.predict(list(image[:, 0]))
        return {"score": np.asarray(scores, np.float32)[:, None]}

    return infer


if __name__ == "__main__":
    ports = {"http_port": work.PORT, "grpc_port": work.PORT + 1, "metrics_port": work.PORT + 2}
    batcher = DynamicBatcher(max_queue_delay_microseconds=int(work.MAX_WAIT_MS * 1000))
    with Triton(config=TritonConfig(http_address="127.0.0.1", log_verbose=0, **ports)) as triton:
        triton.bind(
            "vit",
            [instance() for _ in range(work.WORKERS)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=work.MAX_BATCH, batcher=batcher),
            strict=False,
        )
        # As Triton's own program does: SIGTERM lets what is in flight finish.
        signal.signal(signal.SIGTERM, lambda *_: triton.stop())
        triton.serve()
