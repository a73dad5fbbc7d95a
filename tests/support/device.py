"""Where the tests of the mathematics compute: on the GPU, if PyTorch finds one, and else on the CPU."""

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
