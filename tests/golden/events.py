"""Prints the golden messages of tests/data/formats/test_events.cpp, as TensorBoard's own protocol
buffers serialise them: python events.py, where tensorboard is installed. Times are 1.0."""
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.plugins.text.summary_v2 import text_pb

limits = [0.0]
v = 1e-12
while v < 1e20:
    limits += [v, -v]
    v *= 1.1
limits = sorted(limits + [-1.7976931348623157e308, 1.7976931348623157e308])


def show(name, event):
    event.wall_time = 1.0
    print(f"{name}: {event.SerializeToString().hex()}")


def value(step, **fields):
    return Event(step=step, summary=Summary(value=[Summary.Value(**fields)]))


def histogram(values):
    """The buckets from that of the least value to that of the largest; runs of empty ones are one."""
    counts = [0] * len(limits)
    for x in values:
        counts[next(i for i, limit in enumerate(limits) if x < limit)] += 1
    full = [i for i in range(len(limits)) if counts[i]]
    kept = [i for i in range(full[0], full[-1] + 1) if counts[i] or counts[i + 1]]
    return HistogramProto(min=min(values), max=max(values), num=len(values), sum=sum(values),
                          sum_squares=sum(x * x for x in values),
                          bucket_limit=[limits[i] for i in kept], bucket=[counts[i] for i in kept])


show("version", Event(file_version="brain.Event:2"))
show("scalar", value(300, tag="loss", simple_value=0.25))
show("zero", value(0, tag="loss", simple_value=0.0))
show("negative", value(-1, tag="é", simple_value=float("-inf")))
show("histogram", value(7, tag="w", histo=histogram([0.5, 0.5, -2.0])))
show("text", Event(step=2, summary=text_pb("note", "**warm-up**")))


def hparams(tag, **content):
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME,
                                        content=HParamsPluginData(**content).SerializeToString())
    show(tag, value(0, tag=tag, metadata=SummaryMetadata(plugin_data=plugin)))


info = api_pb2.HParamInfo
hparams(metadata.EXPERIMENT_TAG, experiment=api_pb2.Experiment(
    hparam_infos=[info(name="nesterov", type=api_pb2.DATA_TYPE_BOOL)],
    metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag="loss"))]))
start = SessionStartInfo(start_time_secs=1.0)
start.hparams["nesterov"].bool_value = False
hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
