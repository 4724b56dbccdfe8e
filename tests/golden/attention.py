#!/usr/bin/env python3
"""Writes attention.txt.gz: attention and the layers of transformers, by PyTorch; cases.py says how.
Inputs are numbers that float32 holds. Results of float32 cases are computed in float64, because in
float32 PyTorch is off by more than the tests allow."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

n = torch.nn
SOME = torch.tensor([[True, False, True, True], [False, True, True, False],
                     [True, True, True, True]])
NONE = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])  # a row without a key

ATTENTION = {  # name: (q, k, v, mask, options)
    "plain": ((2, 3, 5), (2, 4, 5), (2, 4, 6), None, {}),
    "heads": ((2, 2, 3, 4), (2, 2, 4, 4), (2, 2, 4, 4), None, {}),
    "broadcast": ((2, 3, 4), (1, 4, 4), (4, 3), None, {}),
    "scale": ((3, 4), (4, 4), (4, 2), None, dict(scale=0.3)),
    "causal": ((2, 5, 3), (2, 5, 3), (2, 5, 3), None, dict(is_causal=True)),
    "causal_long": ((5, 3), (3, 3), (3, 3), None, dict(is_causal=True)),
    "causal_wide": ((3, 3), (5, 3), (5, 3), None, dict(is_causal=True)),
    "mask": ((2, 3, 5), (2, 4, 5), (2, 4, 6), SOME, {}),
    "mask_row": ((2, 3, 5), (2, 4, 5), (2, 4, 6), SOME[:1], {}),
    "nothing": ((2, 3, 5), (2, 4, 5), (2, 4, 6), NONE, {}),
    "added": ((2, 3, 5), (2, 4, 5), (2, 4, 6), numbers((3, 4), 9), {}),
    "added_each": ((2, 3, 5), (2, 4, 5), (2, 4, 6), numbers((2, 1, 4), 9), dict(scale=1.0)),
}


def layer(op, name, dtype, module, inputs, options={}, masks={}, call=None):
    """A case of a layer: its parameters are arguments, by their names."""
    module.train(False)
    # norms far from 0, because a product with a tiny weight loses its last bits in float32
    state = {k: ("norm" in k and "weight" in k) + 0.3 * numbers(v.shape, 190 + i)
             for i, (k, v) in enumerate(module.state_dict().items())}
    state = {k: v.float().double() for k, v in state.items()}
    arguments = {f"input{i}": numbers(shape, i) for i, shape in enumerate(inputs)}

    def run(**given):
        x = [given.pop(key) for key in arguments]
        kept = {key: given.pop(key) for key in masks}
        output = torch.func.functional_call(module, given, call(x), kept)
        return output[0] if isinstance(output, tuple) else output

    return case_of(op, name, dtype, options, arguments | state | masks, run, constant=masks.keys())


def cases(dtype):
    for name, (q, k, v, mask, options) in ATTENTION.items():
        arguments = {"q": numbers(q, 1), "k": numbers(k, 2), "v": numbers(v, 3)}
        if mask is not None:
            arguments["mask"] = mask.clone()

        def call(q, k, v, mask=None):
            return F.scaled_dot_product_attention(q, k, v, mask, **options)

        yield case_of("scaled_dot_product_attention", name, dtype, options, arguments, call)

    hidden = ~SOME.T.contiguous()[:3, :]  # [3, 3], no row without a key
    hidden[1, 1] = False
    late = torch.tensor([[False, False, True], [False, False, False]])
    three = lambda x: (x[0], x[1], x[2])
    attention = lambda **o: n.MultiheadAttention(4, 2, **o)
    same = [(3, 2, 4)] * 3
    yield layer("MultiheadAttention", "plain", dtype, attention(), same, call=three)
    yield layer("MultiheadAttention", "no_bias", dtype, attention(bias=False), same,
                dict(bias=False), call=three)
    yield layer("MultiheadAttention", "sizes", dtype, attention(kdim=3, vdim=5),
                [(3, 2, 4), (6, 2, 3), (6, 2, 5)], dict(kdim=3, vdim=5), call=three)
    yield layer("MultiheadAttention", "batch_first", dtype, attention(batch_first=True),
                [(2, 3, 4), (2, 5, 4), (2, 5, 4)], dict(batch_first=True), call=three)
    yield layer("MultiheadAttention", "unbatched", dtype, attention(), [(3, 4)] * 3, call=three)
    yield layer("MultiheadAttention", "hidden", dtype, attention(), same,
                masks=dict(attn_mask=hidden), call=three)
    yield layer("MultiheadAttention", "added", dtype, attention(), same,
                masks=dict(attn_mask=numbers((4, 3, 3), 8).to(dtype)), call=three)
    yield layer("MultiheadAttention", "padded", dtype, attention(), same,
                masks=dict(key_padding_mask=late), call=three)
    yield layer("MultiheadAttention", "both", dtype, attention(), same,
                masks=dict(key_padding_mask=late, attn_mask=hidden & False), call=three)

    def encoder(**o):
        return n.TransformerEncoderLayer(4, 2, 6, 0.1, **o)

    def decoder(**o):
        return n.TransformerDecoderLayer(4, 2, 6, 0.1, **o)

    one, two = lambda x: (x[0],), lambda x: (x[0], x[1])
    for name, options in {
            "plain": {}, "norm_first": dict(norm_first=True), "gelu": dict(activation="gelu"),
            "no_bias": dict(bias=False), "eps": dict(layer_norm_eps=0.1),
            "batch_first": dict(batch_first=True)}.items():
        yield layer("TransformerEncoderLayer", name, dtype, encoder(**options), [(3, 2, 4)], options,
                    call=one)
        yield layer("TransformerDecoderLayer", name, dtype, decoder(**options),
                    [(3, 2, 4), (3, 2, 4) if "batch_first" in options else (5, 2, 4)], options,
                    call=two)
    causal = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
    for name, options in {"plain": {}, "norm_first": dict(norm_first=True)}.items():
        yield layer("TransformerEncoder", name, dtype,
                    n.TransformerEncoder(encoder(**options), 2, enable_nested_tensor=False),
                    [(3, 2, 4)], options, dict(mask=causal), call=one)
        yield layer("TransformerDecoder", name, dtype, n.TransformerDecoder(decoder(**options), 2),
                    [(3, 2, 4), (5, 2, 4)], options, dict(tgt_mask=causal), call=two)


def exact_cases(dtype):
    """The cases in float64, called f32 for float32."""
    for case in cases(torch.float64):
        head, *lines = case
        yield [head.replace("f64", {torch.float32: "f32", torch.float64: "f64"}[dtype])] + lines


write(__file__, exact_cases)
