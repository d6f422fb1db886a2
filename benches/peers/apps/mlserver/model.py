"""Seldon MLServer: the KServe v2 protocol, batches in the server, models in worker processes."""

import asyncio

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse, ResponseOutput

import work


class Vit(MLModel):
    async def load(self):
        self.model = work.Model()
        return True

    async def predict(self, payload):
        images = StringCodec.decode_input(payload.inputs[0])
        try:
            scores = await asyncio.get_running_loop().run_in_executor(None, self.model.predict, images)
        except Exception as error:
            raise MLServerError(str(error)[:80], 400) from error
        output = ResponseOutput(name="score", shape=[len(scores)], datatype="FP32", data=scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
