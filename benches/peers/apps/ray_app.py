"""Ray Serve: proxies and replicas as actors of a cluster of one."""

import asyncio
import json
import os
import signal
import time

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

import work


@serve.deployment(num_replicas=work.WORKERS, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
class Vit:
    def __init__(self):
        self.model = work.Model()

    @serve.batch(max_batch_size=work.MAX_BATCH, batch_wait_timeout_s=work.MAX_WAIT_MS / 1000)
    async def infer(self, images):
        return await asyncio.get_running_loop().run_in_executor(None, self.model.predict, images)

    async def __call__(self, request: Request):
        body = await request.body()
        image = body if body[:2] == work.JPEG else json.loads(body)["image"]
        try:
            return {"score": await self.infer(image)}
        except Exception as error:
            return JSONResponse({"error": str(error)[:80]}, status_code=400)


def leave(*_):
    serve.shutdown()
    ray.shutdown()
    os._exit(0)


if __name__ == "__main__":
    ours = {name: value for name, value in os.environ.items() if name.startswith("RACE_")}
    ours["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=os.environ["RACE_RAY_FOLDER"],
        runtime_env={"env_vars": ours},
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": work.PORT},
        logging_config={"enable_access_log": False, "log_level": "ERROR"},
    )
    serve.run(Vit.bind(), route_prefix="/predict")
    signal.signal(signal.SIGTERM, leave)
    while True:
        time.sleep(3600)
