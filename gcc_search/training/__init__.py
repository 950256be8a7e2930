"""Networks, data, the epoch and the evaluation; torch and torchvision, no Ray."""
