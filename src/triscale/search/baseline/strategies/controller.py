"""The recurrent controller of Zoph & Le 2017 and MnasNet in numpy: an LSTM that emits one token for each choice.

The token of a choice is drawn from a softmax over its options, given all tokens before: the embedding of the last one
is the input of a step, and each choice has a head of its own. Choices with fewer options than others have heads padded
to the same shape, whose surplus options are never drawn. Gradients are those of backpropagation through time, by hand:
the search knows no torch. Arrays are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.search.shape import Array

Tokens = NDArray[np.int64]

_NEVER = -1e9
"""Added to the logit of an option that a choice has not; its probability is exactly 0 then."""


class ControllerWeights(NamedTuple):
    """What the controller learns, or gradients of it.

    ``tokens``, ``[places, options, embedding]``: what a step gets for the token before it; the first gets option 0 of
    its own. ``input``, ``[4 * hidden, embedding]``, ``state``, ``[4 * hidden, hidden]``, ``bias``, ``[4 * hidden]``: of
    the LSTM, with gates in the order input, forget, cell, output. ``heads``, ``[places, options, hidden]``, and
    ``head_bias``, ``[places, options]``: give the logits.
    """

    tokens: Array
    input: Array
    state: Array
    bias: Array
    heads: Array
    head_bias: Array


class Tape(NamedTuple):
    """What gradients need of a forward pass, ``[places, samples, ...]``; cells and states begin before the first."""

    previous: Tokens
    chosen: Array
    log_softmax: Array
    inputs: Array
    gates: Array
    cells: Array
    states: Array


class Forward(NamedTuple):
    """What the controller says of given samples.

    ``log_probs``, ``[samples, places]``: of each token, given those before. ``entropies``, ``[samples, places]``: of
    the distribution that each is drawn from, in nats.
    """

    log_probs: Array
    entropies: Array
    tape: Tape


class Controller:
    """The arithmetic of a controller; its weights are passed in.

    Args:
        counts: How many options each choice has.
        hidden: Size of the LSTM's state.
        embedding: Size of a token's embedding.
    """

    def __init__(self, counts: Sequence[int], hidden: int, embedding: int) -> None:
        self._counts = np.array(counts, dtype=np.int64)
        self._hidden, self._embedding = hidden, embedding
        self._options = np.arange(max(counts, default=1))
        self._absent = np.where(self._options < self._counts[:, None], 0.0, _NEVER)

    def make_weights(self, random: np.random.Generator) -> ControllerWeights:
        """Draw weights from -.1 to 0.1: all options of a choice are nearly equally probable."""
        places, options, hidden = *self._absent.shape, self._hidden
        return ControllerWeights(
            tokens=random.uniform(-0.1, 0.1, (places, options, self._embedding)),
            input=random.uniform(-0.1, 0.1, (4 * hidden, self._embedding)),
            state=random.uniform(-0.1, 0.1, (4 * hidden, hidden)),
            bias=random.uniform(-0.1, 0.1, 4 * hidden),
            heads=random.uniform(-0.1, 0.1, (places, options, hidden)),
            head_bias=random.uniform(-0.1, 0.1, (places, options)),
        )

    def draw(self, weights: ControllerWeights, count: int, random: np.random.Generator) -> Tokens:
        """Return samples ``[count, places]``; each token takes one random number."""
        places = len(self._counts)
        chances = random.random((places, count))
        drawn = np.zeros((count, places), dtype=np.int64)
        token = np.zeros(count, dtype=np.int64)
        cell, state = np.zeros((2, count, self._hidden))
        for place in range(places):
            drive = weights.tokens[place, token] @ weights.input.T + weights.bias
            _, cell, state = _step(weights, drive, cell, state)
            logits = state @ weights.heads[place].T + weights.head_bias[place] + self._absent[place]
            below = np.exp(_log_softmax(logits)).cumsum(axis=-1)
            # The sum of all may be rounded to below 1.
            token = np.minimum((below <= chances[place][:, None]).sum(axis=-1), self._counts[place] - 1)
            drawn[:, place] = token
        return drawn

    def forward(self, weights: ControllerWeights, tokens: Tokens) -> Forward:
        """Return log-probabilities and entropies of samples ``[samples, places]``."""
        samples, places = tokens.shape
        previous = np.zeros((places, samples), dtype=np.int64)
        previous[1:] = tokens.T[:-1]
        inputs = weights.tokens[np.arange(places)[:, None], previous]
        drive = inputs @ weights.input.T + weights.bias
        gates = np.empty((places, samples, 4 * self._hidden))
        cells, states = np.zeros((2, places + 1, samples, self._hidden))
        for place in range(places):
            gates[place], cells[place + 1], states[place + 1] = _step(
                weights, drive[place], cells[place], states[place]
            )
        logits = states[1:] @ weights.heads.transpose(0, 2, 1) + (weights.head_bias + self._absent)[:, None]
        log_softmax = _log_softmax(logits)
        chosen = (self._options == tokens.T[..., None]).astype(np.float64)
        return Forward(
            log_probs=(chosen * log_softmax).sum(axis=-1).T,
            entropies=-(np.exp(log_softmax) * log_softmax).sum(axis=-1).T,
            tape=Tape(previous, chosen, log_softmax, inputs, gates, cells, states),
        )

    def backward(
        self, weights: ControllerWeights, forward: Forward, to_log_probs: Array, to_entropies: Array
    ) -> ControllerWeights:
        """Return the gradients of a scalar.

        Args:
            weights: Which the forward pass was made with.
            forward: That pass.
            to_log_probs: ``[samples, places]``, the scalar's gradients with respect to the log-probabilities.
            to_entropies: ``[samples, places]``, the same for the entropies.
        """
        tape = forward.tape
        softmax = np.exp(tape.log_softmax)
        to_logits = to_log_probs.T[..., None] * (tape.chosen - softmax)
        to_logits -= to_entropies.T[..., None] * softmax * (tape.log_softmax + forward.entropies.T[..., None])
        to_states = to_logits @ weights.heads
        to_gates = np.empty_like(tape.gates)
        to_state, to_cell = np.zeros((2, *to_states.shape[1:]))
        for place in reversed(range(len(to_states))):
            put_in, kept, new, put_out = np.split(tape.gates[place], 4, axis=-1)
            squashed = np.tanh(tape.cells[place + 1])
            to_state = to_state + to_states[place]
            to_cell = to_cell + to_state * put_out * (1 - squashed**2)
            to_gates[place] = np.concatenate(
                (
                    to_cell * new * put_in * (1 - put_in),
                    to_cell * tape.cells[place] * kept * (1 - kept),
                    to_cell * put_in * (1 - new**2),
                    to_state * squashed * put_out * (1 - put_out),
                ),
                axis=-1,
            )
            to_cell = to_cell * kept
            to_state = to_gates[place] @ weights.state
        given = (self._options == tape.previous[..., None]).astype(np.float64)
        return ControllerWeights(
            tokens=given.transpose(0, 2, 1) @ (to_gates @ weights.input),
            input=np.tensordot(to_gates, tape.inputs, ((0, 1), (0, 1))),
            state=np.tensordot(to_gates, tape.states[:-1], ((0, 1), (0, 1))),
            bias=to_gates.sum(axis=(0, 1)),
            heads=to_logits.transpose(0, 2, 1) @ tape.states[1:],
            head_bias=to_logits.sum(axis=1),
        )


def _step(weights: ControllerWeights, drive: Array, cell: Array, state: Array) -> tuple[Array, Array, Array]:
    """Return the gates, the cell and the state after one place; ``drive`` is what the input adds to the gates."""
    size = state.shape[-1]
    gates = drive + state @ weights.state.T
    new = np.tanh(gates[:, 2 * size : 3 * size])
    # The logistic function, which so never overflows.
    gates = 0.5 + 0.5 * np.tanh(0.5 * gates)
    gates[:, 2 * size : 3 * size] = new
    put_in, kept, new, put_out = (gates[:, part * size : (part + 1) * size] for part in range(4))
    cell = kept * cell + put_in * new
    return gates, cell, put_out * np.tanh(cell)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
