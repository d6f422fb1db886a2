"""Mosec: a server in Rust that hands batches to Python workers."""

from mosec import Server, ValidationError, Worker

import work


class Vit(Worker):
    def __init__(self):
        super().__init__()
        self.model = work.Model()

    def deserialize(self, data):
        return data if data[:2] == work.JPEG else super().deserialize(data)["image"]

    def forward(self, data):
        many = data if work.MAX_BATCH > 1 else [data]
        try:
            answers = [{"score": score} for score in self.model.predict(many)]
            return answers if work.MAX_BATCH > 1 else answers[0]
        except Exception as error:
            raise ValidationError(str(error)[:80]) from error


if __name__ == "__main__":
    server = Server()
    # A wait of 0 would mean mosec's default of 10 ms.
    wait_ms = max(1, int(work.MAX_WAIT_MS))
    server.append_worker(Vit, num=work.WORKERS, max_batch_size=work.MAX_BATCH, max_wait_time=wait_ms, timeout=30)
    server.run()
