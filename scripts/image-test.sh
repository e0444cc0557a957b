#!/bin/sh
# Builds each Docker image, runs it without privileges (read-only, no capabilities, not root), sends a request, stops it.
# Needs a Docker engine and what `make demo` writes, or in MODELS a model with both forms and in PICTURE an image.
set -eu

name=voc-cls-test-$$
models=${MODELS:-$PWD/demo/models/voc}
docker=${DOCKER:-docker}
MOST_OPENVINO=400000000  # bytes; compare `docker image ls`

[ -d "$models" ] || { echo "image-test: $models does not exist: run 'make demo' first" >&2; exit 1; }
cleanup() { "$docker" rm --force "$name" >/dev/null 2>&1 || true; }
trap cleanup EXIT
trap 'exit 130' INT TERM
fail() { echo "image-test: $1" >&2; exit 1; }

image_test() {  # target, most memory
    image=voc-cls:test-$1
    DOCKER_BUILDKIT=1 "$docker" build --network=host --target "$1" -t "$image" .
    "$docker" image inspect --format "$1: size {{.Size}} bytes, user {{.Config.User}}" "$image"
    "$docker" run --detach --name "$name" --read-only --tmpfs /tmp --cap-drop ALL --memory "$2" \
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
    "$docker" exec "$name" python -c 'import os; assert os.getuid() == 10001, os.getuid(); print("uid", os.getuid())'
    "$docker" stop --time 30 "$name" >/dev/null
    code=$("$docker" inspect --format '{{.State.ExitCode}}' "$name")
    "$docker" logs "$name" 2>&1 | tee "$logs"
    [ "$code" = 0 ] || fail "exit code $code after SIGTERM, expected 0"
    grep --quiet --ignore-case "loaded in .* by $1" "$logs" || fail "the image does not compute by $1"
    cleanup
}

picture=${PICTURE:-$(ls demo/devkit/VOCdevkit/VOC2007/JPEGImages/*.jpg | head -n 1)}
logs=$(mktemp)
image_test openvino 1g
size=$("$docker" image inspect --format '{{.Size}}' voc-cls:test-openvino)
[ "$size" -le "$MOST_OPENVINO" ] || fail "voc-cls:openvino has $size bytes, more than $MOST_OPENVINO"
"$docker" run --rm --entrypoint python voc-cls:test-openvino -c 'import tensorflow' 2>/dev/null \
    && fail "voc-cls:openvino has TensorFlow"
image_test tensorflow 3g
rm "$logs"
echo "image-test: passed"
