"""How many images a server has handed to its model, whoever was still waiting for them."""

import http.client

import places

COUNTER = "roadcrew_stage_batch_size_sum"


class Computed:
    """Ours says so in its metrics; the work of the others logs every batch."""

    def __init__(self, peer):
        self.log = places.SCRATCH / f"{peer.name}.batches"
        self.is_ours = peer.kind == "ours"
        self.log.write_text("")

    def environment(self):
        return {} if self.is_ours else {"RACE_BATCH_LOG": str(self.log)}

    def images(self, server):
        """Since the server's start."""
        if not self.is_ours:
            return sum(int(line) for line in self.log.read_text().split())
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return round(sum(float(line.split()[-1]) for line in lines if line.startswith(COUNTER)))
