// Ask for one prediction over gRPC, a tensor per column, and print it.
//
//	./generate.sh && go run . 127.0.0.1:8001
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"onnx-gateway/examples/clients/go/inference"
)

// number is one FP64 element as the protocol has it; NaN stands for a missing one.
func number(value float64) []byte {
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(value))
}

// text is one BYTES element: its length, then its bytes.
func text(value string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(value))), value...)
}

func flight() *inference.ModelInferRequest {
	request := &inference.ModelInferRequest{ModelName: "flight_delay"}
	column := func(name, datatype string, element []byte) {
		request.Inputs = append(request.Inputs, &inference.ModelInferRequest_InferInputTensor{
			Name: name, Datatype: datatype, Shape: []int64{1},
		})
		request.RawInputContents = append(request.RawInputContents, element)
	}
	column("carrier", "BYTES", text("UA"))
	column("origin", "BYTES", text("EWR"))
	column("dest", "BYTES", text("SFO"))
	column("sched_dep", "BYTES", text("2013-12-23T18:00:00"))
	column("distance", "FP64", number(2565))
	column("temp", "FP64", number(39.9))
	column("humid", "FP64", number(82.1))
	column("wind_speed", "FP64", number(12.7))
	column("precip", "FP64", number(0))
	column("pressure", "FP64", number(math.NaN()))
	column("visib", "FP64", number(4))
	return request
}

func main() {
	address := "127.0.0.1:8001"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var trailer metadata.MD
	client := inference.NewGRPCInferenceServiceClient(connection)
	reply, err := client.ModelInfer(ctx, flight(), grpc.Trailer(&trailer))
	if err != nil {
		log.Fatal(err)
	}
	probability := math.Float32frombits(binary.LittleEndian.Uint32(reply.RawOutputContents[0]))
	fmt.Printf("late with probability %.3f, says version %s; prediction %s is %s\n",
		probability, reply.ModelVersion, trailer.Get("x-prediction-id")[0], trailer.Get("x-record-state")[0])
}
