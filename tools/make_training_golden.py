#!/usr/bin/env python3
"""Figures of PyTorch that the trainer is held to: python tools/make_training_golden.py > tests/fixtures/lab/training.json

AdamW steps with decoupled decay, the warm-up and cosine schedule, the binary cross-entropy, and the
distillation loss with its gradient (through a two-class softmax, which the trainer writes as a sigmoid).
"""
import json
import math

import torch
import torch.nn.functional as F

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)


def adamw():
    weight = torch.randn(2, 3, requires_grad=True)
    begin = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    gradients, values = [], []
    for step in range(5):
        gradient = torch.randn(2, 3)
        optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
        weight.grad = gradient.clone()
        optimizer.step()
        gradients.append(gradient.flatten().tolist())
        values.append(weight.detach().flatten().tolist())
    return {"begin": begin.flatten().tolist(), "rate": 0.01, "decay": 0.1, "gradients": gradients, "values": values}


def cosine(total=40, warm_up=0.1):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    rise = int(total * warm_up)
    rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / rise)
    rates = []
    for _ in range(rise):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rising.step()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - rise)
    for _ in range(total - rise):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        falling.step()
    return {"total": total, "warm_up": warm_up, "rates": rates}


def distillation(temperature=4.0, alpha=0.7):
    logits = torch.tensor([-30.0, -2.5, -0.1, 0.0, 0.7, 3.0, 30.0], requires_grad=True)
    teacher = torch.tensor([0.001, 0.2, 0.9, 0.5, 0.6, 0.97, 0.9999])
    labels = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    teacher_logits = torch.log(teacher / (1 - teacher))
    two = lambda z: torch.stack([-z / 2, z / 2], dim=-1) / temperature
    divergence = F.kl_div(F.log_softmax(two(logits), -1), F.softmax(two(teacher_logits), -1), reduction="none").sum(-1)
    own = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    loss = (alpha * temperature**2 * divergence + (1 - alpha) * own).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    own_gradient = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, labels), logits)[0]
    return {
        "temperature": temperature, "alpha": alpha, "logits": logits.tolist(), "teacher": teacher.tolist(),
        "labels": labels.tolist(), "loss": loss.item(), "gradient": gradient.tolist(),
        "bce": own.mean().item(), "bce_gradient": own_gradient.tolist(),
    }


golden = {"made_with": {"torch": torch.__version__}, "adamw": adamw(), "cosine": cosine(), "distillation": distillation()}
assert all(map(math.isfinite, golden["distillation"]["gradient"]))
print(json.dumps(golden, indent=1))
