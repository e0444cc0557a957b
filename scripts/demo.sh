#!/bin/sh
# Every step on generated images and real ImageNet weights: data, training, evaluation, export, server, predictions.
# It writes to demo/ only, except for the weights, which voc-weights keeps in its cache folder.
set -eu

PICTURES=${PICTURES:-480}
STEPS=${STEPS:-3000}
REQUESTED=12
demo=${DEMO:-demo}
server=

stop_server() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}
trap stop_server EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$1"; }

mkdir -p "$demo"
rm -rf "$demo/run" "$demo/models"

step "1. Generate $PICTURES images with annotations, as a VOC devkit"
voc-data demo "$demo/devkit" --pictures "$PICTURES" --seed 0
root=$demo/devkit/VOCdevkit/VOC2007

step "2. Fetch VGG-16's ImageNet convolutions"
weights=$(voc-weights fetch vgg_16_conv)

step "3. Train the new head m_fc8 on the frozen convolutions"
voc-train --data voc --root "$root" --train-split trainval --eval-split test --net vgg_16 --head gap \
    --weights "$weights" --trainable head --steps "$STEPS" --out "$demo/run"

step "4. Export"
voc-export "$demo/run" "$demo/models/voc" --format savedmodel openvino

step "5. Serve, and predict $REQUESTED images of the test split"
rm -f "$demo/port"
voc-serve --model-dir "$demo/models/voc" --host 127.0.0.1 --port 0 --http-port -1 --port-file "$demo/port" &
server=$!
while [ ! -s "$demo/port" ]; do
    kill -0 "$server" 2>/dev/null || { server=; echo "make demo: the server did not start" >&2; exit 1; }
    sleep 0.2
done
set --
for id in $(head -n "$REQUESTED" "$root/ImageSets/Main/test.txt"); do
    set -- "$@" "$root/JPEGImages/$id.jpg"
done
voc-predict "$@" --server "127.0.0.1:$(cat "$demo/port")" --top-k 4 --sheet "$demo/answers.png"

step "6. Stop the server"
stop_server

cat <<END

Everything is in $demo/: the devkit, the run (metrics, weights, config) and the model. The report of the run and the
predictions as an image:
  $demo/run/report.html
  $demo/answers.png
END
