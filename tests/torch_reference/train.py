"""Training steps of a timm network, for `tests/benchmarks/training_speed.py`: runs in PyTorch's own environment.

`python train.py NAME PX BATCH THREADS` says `ready`, then for every line with a number takes so many steps and
answers with the seconds they took. AdamW, cross-entropy with smoothed labels, channels last, the same random images.
"""

import sys
import time

import torch
from dump import network


def main() -> None:
    name, px, batch, threads = sys.argv[1], *map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = network("timm", name, 10).train().to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, px, px).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=5e-2)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            optimizer.zero_grad(set_to_none=True)
            out = model(images)
            loss = loss_of(out[0] if isinstance(out, tuple) else out, labels)
            loss.backward()
            optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
