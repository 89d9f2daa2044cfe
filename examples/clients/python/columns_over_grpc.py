"""Ask for predictions over gRPC with Triton's client, a tensor per column, two flights in one request.

pip install "tritonclient[grpc]"; python columns_over_grpc.py 127.0.0.1:8001
"""

import sys

import numpy as np
import tritonclient.grpc as triton

FLIGHTS = {
    "carrier": ["UA", "B6"],
    "origin": ["EWR", "JFK"],
    "dest": ["SFO", "BOS"],
    "sched_dep": ["2013-12-23T18:00:00", "2013-10-09T06:30:00"],
    "distance": [2565.0, 187.0],
    "temp": [39.9, 52.0],
    "humid": [82.1, 61.4],
    "wind_speed": [12.7, 5.8],
    "precip": [0.0, 0.0],
    "pressure": [np.nan, 1021.4],  # NaN: missing
    "visib": [4.0, 10.0],
}


def tensor(name: str, values: list[str] | list[float]) -> triton.InferInput:
    column = np.array([str(v).encode() for v in values], object) if isinstance(values[0], str) else np.array(values)
    made = triton.InferInput(name, [len(values)], "BYTES" if column.dtype == object else "FP64")
    made.set_data_from_numpy(column)
    return made


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        result = client.infer("flight_delay", [tensor(name, values) for name, values in FLIGHTS.items()])
    response = result.get_response()
    for (probability,) in result.as_numpy("late_probability"):
        print(
            f"late with probability {probability:.3f}, says version {response.model_version}; "
            f"prediction {response.parameters['prediction_id'].string_param}"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
