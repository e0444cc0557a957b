#!/bin/sh
# Calls voc-serve from a shell with grpcurl; pictures are sent as base64 in JSON.
#
#   examples/grpcurl.sh 127.0.0.1:8500 a.jpg                        by reflection: grpcurl learns the API from the server
#   PROTO=proto examples/grpcurl.sh 127.0.0.1:8500 a.jpg            with the proto file, if the server has no reflection
#   FLAGS='-cacert ca.pem' examples/grpcurl.sh box.example:8500 a.jpg          with TLS
#   VOC_TOKEN=… FLAGS='-cacert ca.pem' examples/grpcurl.sh box.example:8500 a.jpg
set -eu

address=$1
picture=$2
flags=${FLAGS:--plaintext}
api=${PROTO:+-import-path $PROTO -proto voc_cls/v1/classifier.proto}

ask() { # -expand-headers reads the token from the environment: all users can read command lines
    # shellcheck disable=SC2016,SC2086 # grpcurl expands the token; flags and api are lists of words
    grpcurl $flags $api -max-time 10 -expand-headers ${VOC_TOKEN:+-H 'authorization: Bearer ${VOC_TOKEN}'} "$@"
}

[ -n "$api" ] || ask "$address" list

echo '{}' | ask -d @ "$address" voc_cls.v1.Classifier/GetModel

printf '{"pictures": [{"content": "%s"}], "top_k": 3}' "$(base64 < "$picture" | tr -d '\n')" |
    ask -d @ "$address" voc_cls.v1.Classifier/Classify
