"""Prints what TensorBoard reads in the runs below a folder, as JSON: read_events.py FOLDER.

Histograms are [step, number of values, [[left, right, count], ...]] without empty buckets.
Needs tensorboard: exits with 77 if there is none.
"""
import json
import os
import sys

try:
    from tensorboard.backend.event_processing.plugin_event_accumulator import (
        TENSORS, EventAccumulator)
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util import tensor_util
except ImportError as error:
    print(f"skipped: {error}", file=sys.stderr)
    sys.exit(77)


def number(x):
    """A number that JSON has, or a text."""
    return x if abs(x) < float("inf") else str(x)


def hyperparameter(value):
    return getattr(value, value.WhichOneof("kind"))


def hparams(contents):
    found = {}
    for tag, content in contents.items():
        if tag == metadata.SESSION_START_INFO_TAG:
            start = metadata.parse_session_start_info_plugin_data(content)
            assert start.start_time_secs > 1.6e9
            values = {name: hyperparameter(v) for name, v in start.hparams.items()}
            found["values"] = dict(sorted(values.items()))
        elif tag == metadata.EXPERIMENT_TAG:
            experiment = metadata.parse_experiment_plugin_data(content)
            found["types"] = {info.name: info.type for info in experiment.hparam_infos}
            found["metrics"] = [info.name.tag for info in experiment.metric_infos]
    return found


def read(folder):
    log = EventAccumulator(folder, size_guidance={TENSORS: 0})
    log.Reload()
    run = {"scalars": {}, "histograms": {}, "texts": {}}
    for tag in log.Tags()["tensors"]:
        plugin = log.SummaryMetadata(tag).plugin_data.plugin_name
        for event in log.Tensors(tag):
            assert event.wall_time > 1.6e9
            array = tensor_util.make_ndarray(event.tensor_proto)
            if plugin == "scalars":
                run["scalars"].setdefault(tag, []).append([event.step, number(array.item())])
            elif plugin == "text":
                run["texts"].setdefault(tag, []).append([event.step, array.item().decode()])
            elif plugin == "histograms":
                buckets = [[float(f"{x:.6g}") for x in row] for row in array.tolist() if row[2]]
                run["histograms"].setdefault(tag, []).append(
                    [event.step, float(array[:, 2].sum()), buckets])
    try:
        run["hparams"] = hparams(log.PluginTagToContent(metadata.PLUGIN_NAME))
    except KeyError:  # there are none
        pass
    return run


folder = sys.argv[1]
runs = os.path.join(folder, "runs")
result = {name: read(os.path.join(runs, name)) for name in sorted(os.listdir(runs))}
with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as lines:
    result["metrics.jsonl"] = [json.loads(line) for line in lines]
for part, content in result.items():
    print(json.dumps(part, ensure_ascii=False))
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        print(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
