#!/bin/sh
# Go code of proto/inference.proto into ./inference. Needs protoc; Python's grpcio-tools brings one:
#   PROTOC="python3 -m grpc_tools.protoc" ./generate.sh
set -eu
cd "$(dirname "$0")"
mkdir -p inference
${PROTOC:-protoc} -I../../../proto \
    --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
    --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" \
    --go_out=inference --go_opt=paths=source_relative,Minference.proto=onnx-gateway/examples/clients/go/inference \
    --go-grpc_out=inference --go-grpc_opt=paths=source_relative,Minference.proto=onnx-gateway/examples/clients/go/inference \
    ../../../proto/inference.proto
