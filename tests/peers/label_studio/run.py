"""Scenes, `select`, a real Label Studio, `dataset import-labels`: do the labels come back as given?

run.py ROADCREW LABEL_STUDIO [--fixtures DIR]

Starts a server of its own on a free port with its data in a temporary folder, and ends it. With
--fixtures, the exports of a small project go there; the tests of the parser read them.
"""

import argparse
import collections
import http.server
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time

import requests

COUNT = 12


class Server:
    """A Label Studio of our own."""

    def __init__(self, program, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.token = secrets.token_hex(20)
        self.base = f"http://127.0.0.1:{port}"
        settings = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
            "COLLECT_ANALYTICS": "0",
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_USERNAME": "somebody@example.com",
            "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
            "LABEL_STUDIO_USER_TOKEN": self.token,
        }
        command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "-p", str(port)]
        self.log = open(folder / "server.log", "w")
        self.process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def __enter__(self):
        begun = time.monotonic()
        while time.monotonic() - begun < 300:
            if self.process.poll() is not None:
                raise SystemExit(f"Label Studio ended: see {self.log.name}")
            try:
                if requests.get(self.base + "/health", timeout=5).json()["status"] == "UP":
                    print(f"Label Studio is up after {time.monotonic() - begun:.0f} s")
                    return self
            except (requests.RequestException, ValueError):
                pass
            time.sleep(1)
        raise SystemExit("Label Studio did not start within 300 s")

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def call(self, method, path, **options):
        head = {"Authorization": f"Token {self.token}"}
        reply = requests.request(method, self.base + path, headers=head, timeout=60, **options)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text[:300]}"
        return reply.json()

    def project(self, tasks, interface):
        """A project with this labelling interface and these tasks; the number of each task by its picture."""
        project = self.call("POST", "/api/projects/", json={"title": "roadcrew", "label_config": interface})["id"]
        made = self.call("POST", f"/api/projects/{project}/import", json=tasks)
        assert made["task_count"] == made["prediction_count"] == len(tasks), made
        found = self.call("GET", "/api/tasks", params={"project": project, "fields": "all", "page_size": 1000})
        found = found["tasks"] if isinstance(found, dict) else found
        return project, {task["data"]["picture"]: task["id"] for task in found}

    def annotate(self, task, label, cancelled=False):
        value = {"choices": [label]}
        result = [{"from_name": "roadwork", "to_name": "image", "type": "choices", "value": value}]
        body = {"result": result if label else [], "was_cancelled": cancelled, "lead_time": 1.5}
        self.call("POST", f"/api/tasks/{task}/annotations/", json=body)

    def export(self, project, kind):
        return self.call("GET", f"/api/projects/{project}/export", params={"exportType": kind})


def roadcrew(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def pictures_server(folder):
    """Serves the pictures, as a researcher would; Label Studio only keeps the addresses."""
    handler = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=folder)
    http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def round_trip(server, binary, folder):
    scenes, selected, tasks_file = folder / "scenes", folder / "selected.jsonl", folder / "tasks.json"
    roadcrew(binary, "scenes", "--out", scenes, "--count", 40, "--seed", 3)
    address = pictures_server(scenes)
    roadcrew(
        binary, "select", "--data", scenes, "--count", COUNT, "--out", selected,
        "--label-studio", tasks_file, "--image-url", address, "--cache", folder / "cache",
    )
    tasks = json.loads(tasks_file.read_text())
    interface = tasks_file.with_suffix(".xml").read_text()
    chosen = [line["id"] for line in lines(selected)]
    assert len(chosen) == len(set(chosen)) == len(tasks) == COUNT
    assert [task["data"]["picture"] for task in tasks] == chosen
    for task in tasks:
        assert requests.get(task["data"]["image"], timeout=5).content == (scenes / task["data"]["picture"]).read_bytes()
    project, numbers = server.project(tasks, interface)

    truth = {line["file"]: line["label"] for line in lines(scenes / "labels.jsonl")}
    word = ["not_roadwork", "roadwork"]
    cancelled, tie, majority, silent = chosen[:4]
    for picture in chosen[4:]:
        server.annotate(numbers[picture], word[truth[picture]])
    server.annotate(numbers[cancelled], word[truth[cancelled]], cancelled=True)
    for label in word:
        server.annotate(numbers[tie], label)
    for label in [truth[majority], 1 - truth[majority], truth[majority]]:
        server.annotate(numbers[majority], word[label])

    expected = {picture: truth[picture] for picture in [majority, *chosen[4:]]}
    for kind in ["JSON", "JSON_MIN"]:
        export, labelled = folder / f"{kind}.json", folder / f"{kind}.jsonl"
        export.write_text(json.dumps(server.export(project, kind)))
        report = json.loads(roadcrew(
            binary, "dataset", "import-labels", "--json", "--label-studio", export,
            "--manifest", selected, "--out", labelled,
        ))
        found = {line["id"]: line["label"] for line in lines(labelled)}
        assert found == expected, f"{kind}: {found} is not {expected}"
        assert report["ties"] == [numbers[tie]] and report["unknown"] == [], report
        # The long form has cancelled tasks, the short one has not; neither has those nobody opened.
        assert report["unanswered"] == ([numbers[cancelled]] if kind == "JSON" else []), report
        assert report["missing"] == (1 if kind == "JSON" else 2), report
        stats = json.loads(roadcrew(binary, "dataset", "stats", "--json", labelled))
        counts = collections.Counter(expected.values())
        assert stats["images"] == {"roadwork": counts[1], "not_roadwork": counts[0]}, stats
        print(f"{kind}: {len(found)} labels came back as they were given; {report}")
    assert silent not in expected
    return interface


def fixtures(server, out, interface):
    """A yes, a no, a cancelled one, one of two minds, two to one, one without a choice."""
    def task(number):
        value = {"choices": ["roadwork"]}
        result = [{"from_name": "roadwork", "to_name": "image", "type": "choices", "value": value}]
        data = {
            "image": f"http://127.0.0.1:1/{number}.jpg",
            "picture": f"images/{number}.jpg",
            "sha256": f"{number}" * 64,
        }
        return {"data": data, "predictions": [{"model_version": "roadcrew", "score": 0.75, "result": result}]}

    project, numbers = server.project([task(number) for number in range(6)], interface)
    votes = [["roadwork"], ["not_roadwork"], [], ["roadwork", "not_roadwork"],
             ["roadwork", "not_roadwork", "roadwork"], [None]]
    for number, labels in enumerate(votes):
        for label in labels:
            server.annotate(numbers[f"images/{number}.jpg"], label)
    server.annotate(numbers["images/2.jpg"], "roadwork", cancelled=True)
    for name, kind in [("export.json", "JSON"), ("export_min.json", "JSON_MIN")]:
        (out / name).write_text(json.dumps(server.export(project, kind), indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roadcrew")
    parser.add_argument("label_studio")
    parser.add_argument("--fixtures", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Server(options.label_studio, folder) as server:
            interface = round_trip(server, options.roadcrew, folder)
            if options.fixtures:
                fixtures(server, options.fixtures, interface)
    print("the round trip is sound")


if __name__ == "__main__":
    main()
