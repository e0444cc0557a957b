#!/bin/sh
# The whole way, on pictures generated here and real ImageNet weights: data, training, evaluation, export, server,
# answers. Everything it writes goes to demo/ but the weights, which go to the cache folder of voc-weights.
set -eu

PICTURES=${PICTURES:-480}
ASKED=12
demo=demo
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

step "1. $PICTURES pictures with annotations, as a VOC devkit"
voc-data demo "$demo/devkit" --pictures "$PICTURES" --seed 0
root=$demo/devkit/VOCdevkit/VOC2007

step "2. VGG-16's ImageNet convolutions"
voc-weights fetch vgg_16_conv --out "$demo/weights/vgg_16_conv.ckpt"

step "3. Train the new head m_fc8 on the frozen convolutions"
voc-train --data voc --root "$root" --train-split trainval --eval-split test --net vgg_16 --head gap \
    --weights "$demo/weights/vgg_16_conv.ckpt" --trainable head --out "$demo/run"

step "4. Export"
voc-export "$demo/run" "$demo/models/voc"

step "5. Serve, and ask about $ASKED pictures of the test split"
voc-serve --model-dir "$demo/models/voc" --port 0 --port-file "$demo/port" &
server=$!
