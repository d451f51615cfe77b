"""What TensorBoard reads in a run folder, as JSON: {tag: [[step, value], ...]}. Called by tensorboard_test.py, with a Python that has
TensorBoard (tools/install-peers). With --again, a folder is read once, then standard input is waited for, then it is read on, as a
TensorBoard does that runs beside the training."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator


def main():
    folder, again = sys.argv[1], "--again" in sys.argv
    reader = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.SCALARS: 0})  # 0: all points
    for _ in range(2 if again else 1):
        reader.Reload()
        scalars = {tag: [[e.step, e.value] for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
        print(json.dumps(scalars), flush=True)
        if again:
            sys.stdin.readline()


if __name__ == "__main__":
    main()
