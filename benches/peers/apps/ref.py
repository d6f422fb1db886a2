"""The plain way, and no batching: FastAPI under uvicorn, as an axon of the Bittensor SDK has it."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

import work

app = FastAPI()
model = work.Model()


class Question(BaseModel):
    image: str


def answer(image):
    try:
        return {"score": model.predict([image])[0]}
    except Exception as error:
        raise HTTPException(400, str(error)[:80]) from error


@app.post("/predict")
def predict(question: Question):
    return answer(question.image)


@app.post("/raw")
async def raw(request: Request):
    return await run_in_threadpool(answer, await request.body())


if __name__ == "__main__":
    import uvicorn

    # More than one worker needs the application's name, and imports it in each.
    target = app if work.WORKERS == 1 else "ref:app"
    uvicorn.run(target, host="127.0.0.1", port=work.PORT, workers=work.WORKERS, log_level="warning", access_log=False)
