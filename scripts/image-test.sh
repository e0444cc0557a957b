#!/bin/sh
# Builds the Docker image, runs it without privileges (read-only, no capabilities, not root), sends a request, stops it.
# Needs a Docker engine and the model that `make demo` writes.
set -eu

image=voc-cls:test
name=voc-cls-test-$$
models=$PWD/demo/models/voc
picture=$(ls demo/devkit/VOCdevkit/VOC2007/JPEGImages/*.jpg | head -n 1)
docker=${DOCKER:-docker}

[ -d "$models" ] || { echo "image-test: $models does not exist: run 'make demo' first" >&2; exit 1; }
cleanup() { "$docker" rm --force "$name" >/dev/null 2>&1 || true; }
trap cleanup EXIT
trap 'exit 130' INT TERM

DOCKER_BUILDKIT=1 "$docker" build --network=host -t "$image" .
"$docker" image inspect --format 'size: {{.Size}} bytes; user: {{.Config.User}}' "$image"
"$docker" run --detach --name "$name" --read-only --tmpfs /tmp --cap-drop ALL --memory 3g \
    --publish 127.0.0.1::8500 --volume "$models:/models/voc:ro" "$image" >/dev/null
printf 'waiting until the container is healthy '
state=starting
for _ in $(seq 90); do
    state=$("$docker" inspect --format '{{.State.Health.Status}}' "$name")
    [ "$state" = starting ] || break
    printf .
    sleep 1
done
echo " $state"
[ "$state" = healthy ] || { "$docker" logs "$name" >&2; exit 1; }
voc-predict "$picture" --server "$("$docker" port "$name" 8500 | head -n 1)" --top-k 3
"$docker" exec "$name" python -c 'import os; assert os.getuid() == 10001, os.getuid(); print("runs as uid", os.getuid())'
"$docker" stop --time 30 "$name" >/dev/null
code=$("$docker" inspect --format '{{.State.ExitCode}}' "$name")
"$docker" logs "$name"
[ "$code" = 0 ] || { echo "image-test: exit code $code after SIGTERM, expected 0" >&2; exit 1; }
echo "image-test: passed"
