#!/usr/bin/env bash
# The main job as a user meets it: smoke.sh BINARY IMAGE PROMTOOL
# Copies the binary to an empty folder, predicts, serves, asks by curl, lints /metrics with
# Prometheus's own parser, and stops the server by SIGTERM while requests are under way.
set -euo pipefail

binary=$(realpath "$1") image=$(realpath "$2") promtool=$(realpath "$3")
folder=$(mktemp -d)
server=
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$folder"' EXIT
fail() { echo "smoke: $*" >&2; exit 1; }

cp "$binary" "$folder/roadcrew"
cd "$folder"

./roadcrew predict "$image" --json | tee predicted.json
grep -q '"probability":' predicted.json || fail "predict gave no probability"

./roadcrew serve --set http.port=0 2>serve.log &
server=$!
for _ in $(seq 100); do
  address=$(grep -o 'http://[0-9.:]*' serve.log | head -n 1 || true)
  [ -n "$address" ] && curl -fsS "$address/readyz" >/dev/null 2>&1 && break
  sleep 0.1
done
curl -fsS "$address/readyz" >/dev/null || fail "not ready: $(cat serve.log)"

curl -fsS --data-binary @"$image" "$address/v1/predict" | tee served.json
echo
grep -q '"label":' served.json || fail "the server gave no label"
curl -fsS "$address/metrics" >metrics.txt
"$promtool" check metrics <metrics.txt || fail "promtool refuses /metrics"
curl -fsS "$address/openapi.json" >/dev/null
curl -fsS "$address/docs" >/dev/null

kill -TERM $server
status=0
wait $server || status=$?
[ "$status" = 0 ] || fail "serve ended with $status after SIGTERM"

# SIGTERM under load, with a stage slow enough that requests are under way: what was accepted is
# answered 200, what comes later is refused 503 or finds the port closed, and nothing is cut off.
./roadcrew serve --set http.port=0 --set stages.screen.backend=scripted \
  --set stages.screen.scripted.base_ms=400 --set stages.screen.scripted.answer=0.9 2>slow.log &
server=$!
for _ in $(seq 100); do
  address=$(grep -o 'http://[0-9.:]*' slow.log | head -n 1 || true)
  [ -n "$address" ] && curl -fsS "$address/readyz" >/dev/null 2>&1 && break
  sleep 0.1
done
clients=
for n in $(seq 24); do
  curl -s -o /dev/null -w '%{http_code} %{exitcode}\n' --data-binary @"$image" \
    "$address/v1/predict" >"code.$n" &
  clients="$clients $!"
done
sleep 0.3
kill -TERM $server
status=0
wait $server || status=$?
server=
[ "$status" = 0 ] || fail "serve ended with $status after SIGTERM under load"
for client in $clients; do wait "$client" || true; done
if grep -hvE '^(200 0|503 0|000 7)$' code.*; then
  fail "connections were cut during the drain"
fi
grep -q '^200' code.* || fail "no request was answered during the drain"
echo "smoke: ok ($(cat code.* | sort | uniq -c | tr '\n' ' '))"
