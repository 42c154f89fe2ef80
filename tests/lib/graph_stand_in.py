"""What stands in for CUDA graphs where there is no GPU: it has their manners, and computes as it is."""

import os

import torch


class StandIn:
    """As captured passes: one input, one result and one gradient, which every pass overwrites."""

    made = 0
    bytes = 1000
    recording = False  # somebody else a graph of their own, which ours would end

    def __init__(self, function, z, with_gradient=True):
        assert not StandIn.recording
        StandIn.made += 1
        self.function, self.turn, self.with_gradient = function, 0, with_gradient
        with torch.inference_mode(False):
            self.input = z.detach().clone().requires_grad_(with_gradient)
            self.features = function(self.input).detach()

    def forward(self, z):
        assert not StandIn.recording
        self.turn += 1
        with torch.no_grad():
            self.input.copy_(z)
            return self.features.copy_(self.function(self.input)).clone()

    def backward(self, cotangent):
        self.turn += 1
        assert self.with_gradient and not StandIn.recording
        with torch.enable_grad():
            return torch.autograd.grad(self.function(self.input), self.input, cotangent)[0]


def stand_in(graphs, patch=setattr):
    """In the place of CUDA, in the module of the graphs; patch: sets an attribute."""
    patch(graphs, "_CapturedPasses", StandIn)
    patch(graphs, "_has_graphs", lambda _: os.environ.get(graphs.SWITCH) != "0")
    patch(graphs, "_recording", lambda _: StandIn.recording)
