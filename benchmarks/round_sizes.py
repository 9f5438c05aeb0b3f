"""What round sizes bring: FFNs of about the same width, in multiples of 1, 2, 4, ... neurons, against the dense one.

python -m benchmarks.round_sizes --hidden 768 --ffn 3072 --part 0.5 --batch 1 8

Every layer of a random model keeps about `part` of its neurons: a multiple of 256 and one step, so that the width is a
multiple of that step and of no larger one. Dense and pruned take turns in one process on one thread; the ratio is the
median over rounds. Widths differ a little, so compare neurons per millisecond of processor time.
"""

import argparse
from typing import get_args

import torch
from transformers import BertConfig, BertForSequenceClassification

from pruning.delivery.measure import latency
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape
from pruning.spec import RoundTo

HEADER = "| round_to | neurons | batch | dense ms | shrunk ms | speed-up (wall) | speed-up (CPU) | neurons per CPU ms |"


def model(config: BertConfig) -> BertForSequenceClassification:
    """The same random model at every call."""
    torch.manual_seed(0)
    return BertForSequenceClassification(config).eval()


def main() -> None:
    """Print one line per step and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--ffn", type=int, default=3072)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--part", type=float, default=0.5)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    config = BertConfig(
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.ffn,
    )
    dense = model(config)
    everything = Kept.everything(ModelShape.from_config(config.to_dict()))
    print(HEADER)
    print("|---" * 8 + "|")
    for step in get_args(RoundTo):
        width = int(options.part * options.ffn) // 256 * 256 + step
        small = model(config)
        shrink(small, everything.model_copy(update={"neurons": (tuple(range(width)),) * options.layers}))
        for timed in latency(dense, small, options.batch, options.length, options.rounds):
            columns = (step, width, timed.batch_size, f"{timed.dense_ms:.1f}", f"{timed.pruned_ms:.1f}")
            each = width / timed.pruned_cpu_ms
            ratios = (f"{timed.speedup:.3f}x", f"{timed.cpu_speedup:.3f}x", f"{each:.1f}")
            print(f"| {' | '.join(map(str, (*columns, *ratios)))} |", flush=True)


if __name__ == "__main__":
    main()
