"""BentoML: a service whose batches are formed by a fitted line."""

import bentoml
from bentoml.exceptions import InvalidArgument

import work

BATCHES = {"batchable": True, "max_batch_size": work.MAX_BATCH} if work.MAX_BATCH > 1 else {}


@bentoml.service(workers=work.WORKERS, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Vit:
    def __init__(self):
        self.model = work.Model()

    @bentoml.api(route="/predict", max_latency_ms=60000, **BATCHES)
    def predict(self, images: list[str]) -> list[float]:
        try:
            return self.model.predict(images)
        except Exception as error:
            raise InvalidArgument(str(error)[:80]) from error
