"""The gated activation of the MLP: silu(gate)·up."""
