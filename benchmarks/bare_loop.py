"""A minimal loop that times a model: `python bare_loop.py MODEL` prints the median CPU ms of a run.

It is a file of its own that imports nothing else: the memory layout of a process changes the times of small models by
some percent, and imports change that layout.
"""

import sys
import time

import numpy
import onnxruntime

WARM_UP_RUNS, WARM_UP_S, RUNS = 20, 0.3, 100

if __name__ == "__main__":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    values = numpy.random.RandomState(0).standard_normal([1, *image.shape[1:]])
    feed = {image.name: values.astype(numpy.float32)}
    end, runs = time.perf_counter() + WARM_UP_S, 0
    while runs < WARM_UP_RUNS or time.perf_counter() < end:
        session.run(None, feed)
        runs += 1
    took = []
    for _ in range(RUNS):
        start = time.process_time()
        session.run(None, feed)
        took.append(1e3 * (time.process_time() - start))
    print(sorted(took)[RUNS // 2])
