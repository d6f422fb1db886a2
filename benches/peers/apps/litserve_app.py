"""LitServe: FastAPI in front, workers behind a queue between processes."""

import os

import litserve as ls
from fastapi import HTTPException

import work


class Api(ls.LitAPI):
    def setup(self, device):
        self.model = work.Model()

    def decode_request(self, request):
        return request["image"]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, images):
        many = images if isinstance(images, list) else [images]
        try:
            scores = self.model.predict(many)
        except Exception as error:
            raise HTTPException(400, str(error)[:80]) from error
        return scores if isinstance(images, list) else scores[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"score": output}


if __name__ == "__main__":
    api = Api(max_batch_size=work.MAX_BATCH, batch_timeout=work.MAX_WAIT_MS / 1000)
    server = ls.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=work.WORKERS,
        timeout=60,
        restart_workers=os.environ.get("RACE_RESTART") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=work.PORT,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
