#!/usr/bin/env python3
"""Writes recurrent.txt.gz: recurrent layers and cells by PyTorch; cases.py says how. Inputs are
numbers that float32 holds; results of float32 cases are computed in float64, because in float32
PyTorch is off by more than the tests allow."""
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cases import case_of, numbers, write

n = torch.nn
OPTIONS = {
    "plain": {}, "no_bias": dict(bias=False), "two": dict(num_layers=2),
    "both_ways": dict(bidirectional=True), "batch_first": dict(batch_first=True),
    "all": dict(num_layers=2, bidirectional=True, batch_first=True, bias=False),
}


def arguments_of(module):
    return {k: (0.6 * numbers(v.shape, 20 + i)).float().double()
            for i, (k, v) in enumerate(module.state_dict().items())}


def layer(op, name, module, options, shape, start=False, lengths=None):
    state = arguments_of(module)
    ways = 2 if options.get("bidirectional") else 1
    rows = ways * options.get("num_layers", 1)
    batch = () if len(shape) == 2 else (shape[0 if options.get("batch_first") else 1],)
    arguments = {"input": numbers(shape, 1)}
    if start:
        arguments["h"] = numbers((rows, *batch, 3), 2)
        if op == "LSTM":
            arguments["c"] = numbers((rows, *batch, 3), 3)
    if lengths is not None:
        arguments["lengths"] = torch.tensor(lengths)

    def run(input, h=None, c=None, lengths=None, **parameters):
        given = () if h is None else (((h, c),) if op == "LSTM" else (h,))
        if lengths is None:
            output, end = torch.func.functional_call(module, parameters, (input, *given))
        else:
            first = options.get("batch_first", False)
            packed = pack_padded_sequence(input, lengths, first, enforce_sorted=False)
            output, end = torch.func.functional_call(module, parameters, (packed, *given))
            output, _ = pad_packed_sequence(output, first, total_length=input.shape[1 if first else 0])
        return (output, *end) if op == "LSTM" else (output, end)

    return case_of(op, name, torch.float64, options, arguments | state, run)


def cell(op, name, module, options):
    states = {"h": numbers((2, 3), 2)} | ({"c": numbers((2, 3), 3)} if op == "LSTMCell" else {})

    def run(input, h, c=None, **parameters):
        return torch.func.functional_call(module, parameters, (input, (h, c) if c is not None else h))

    return case_of(op, name, torch.float64, options,
                   {"input": numbers((2, 4), 1)} | states | arguments_of(module), run)


def cases():
    for op, make in ("RNN", n.RNN), ("LSTM", n.LSTM), ("GRU", n.GRU):
        for name, options in OPTIONS.items():
            shape = (2, 5, 4) if options.get("batch_first") else (5, 2, 4)
            yield layer(op, name, make(4, 3, **options), options, shape)
        yield layer(op, "unbatched", make(4, 3), {}, (5, 4), start=True)
        yield layer(op, "one_step", make(4, 3), {}, (1, 3, 4), start=True)
        yield layer(op, "start", make(4, 3, num_layers=2), dict(num_layers=2), (4, 2, 4), start=True)
        for name, options in ("lengths", {}), ("lengths_all", OPTIONS["all"]):
            shape = (3, 5, 4) if options else (5, 3, 4)
            yield layer(op, name, make(4, 3, **options), options, shape, start=True,
                        lengths=[2, 5, 1])
    yield layer("RNN", "relu", n.RNN(4, 3, nonlinearity="relu"), dict(nonlinearity="relu"), (5, 2, 4))
    for op, make in ("RNNCell", n.RNNCell), ("LSTMCell", n.LSTMCell), ("GRUCell", n.GRUCell):
        yield cell(op, "plain", make(4, 3), {})
        yield cell(op, "no_bias", make(4, 3, bias=False), dict(bias=False))
    yield cell("RNNCell", "relu", n.RNNCell(4, 3, nonlinearity="relu"), dict(nonlinearity="relu"))


def all_cases(dtype):
    for head, *lines in cases():
        yield [head.replace("f64", {torch.float32: "f32", torch.float64: "f64"}[dtype])] + lines


write(__file__, all_cases)
