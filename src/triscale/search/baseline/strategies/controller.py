"""The recurrent controller of Zoph & Le 2017 and MnasNet in numpy: an LSTM that emits one token for each choice.

The token of a choice is sampled from a softmax over its options, conditioned on all previous tokens. The embedding of
the last token is the input of a step, and each choice has its own head::

    embedding 0    embedding of     embedding of
                   token 0          token 1
        |              |                |
      [LSTM]  ----> [LSTM]  ------>  [LSTM]  ----> ...
        |              |                |
      head 0         head 1           head 2
        |              |                |
      token 0        token 1          token 2

Heads are padded to the same number of options; padded options have probability 0. Backpropagation through time is
written by hand, so that the search does not depend on torch. Arrays are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.search.shape import Array

Tokens = NDArray[np.int64]

_NEVER = -1e9
"""Added to the logit of a padded option, whose probability is then exactly 0."""


class ControllerWeights(NamedTuple):
    """The weights of the controller, or their gradients.

    Attributes:
        tokens: ``[places, options, embedding]``, the embeddings of previous tokens; the first step gets its option 0.
        input: ``[4 * hidden, embedding]``, the LSTM's input weights; gate order: input, forget, cell, output.
        state: ``[4 * hidden, hidden]``, the LSTM's recurrent weights.
        bias: ``[4 * hidden]``, the LSTM's bias.
        heads: ``[places, options, hidden]``, the weights that give the logits.
        head_bias: ``[places, options]``, the bias of the logits.
    """

    tokens: Array
    input: Array
    state: Array
    bias: Array
    heads: Array
    head_bias: Array


class Tape(NamedTuple):
    """Saved values of a forward pass, ``[places, samples, ...]``; cells and states include the initial ones."""

    previous: Tokens
    chosen: Array
    log_softmax: Array
    inputs: Array
    gates: Array
    cells: Array
    states: Array


class Forward(NamedTuple):
    """The controller's output for given samples.

    Attributes:
        log_probs: ``[samples, places]``, the log-probability of each token given the previous ones.
        entropies: ``[samples, places]``, the entropy of each token's distribution, in nats.
        tape: Values saved for the backward pass.
    """

    log_probs: Array
    entropies: Array
    tape: Tape


class Controller:
    """The forward and backward pass of a controller; weights are passed in.

    Args:
        counts: Number of options of each choice.
        hidden: Size of the LSTM's state.
        embedding: Size of a token's embedding.
    """

    def __init__(self, counts: Sequence[int], hidden: int, embedding: int) -> None:
        self._counts = np.array(counts, dtype=np.int64)
        self._hidden, self._embedding = hidden, embedding
        self._options = np.arange(max(counts, default=1))
        self._absent = np.where(self._options < self._counts[:, None], 0.0, _NEVER)

    def make_weights(self, random: np.random.Generator) -> ControllerWeights:
        """Initialize weights uniformly from -0.1 to 0.1, which makes all options of a choice nearly equally likely."""
        length, options, hidden = *self._absent.shape, self._hidden
        return ControllerWeights(
            tokens=random.uniform(-0.1, 0.1, (length, options, self._embedding)),
            input=random.uniform(-0.1, 0.1, (4 * hidden, self._embedding)),
            state=random.uniform(-0.1, 0.1, (4 * hidden, hidden)),
            bias=random.uniform(-0.1, 0.1, 4 * hidden),
            heads=random.uniform(-0.1, 0.1, (length, options, hidden)),
            head_bias=random.uniform(-0.1, 0.1, (length, options)),
        )

    def draw(self, weights: ControllerWeights, count: int, random: np.random.Generator) -> Tokens:
        """Sample token sequences ``[count, places]``; each token uses one random number."""
        length = len(self._counts)
        chances = random.random((length, count))
        tokens = np.zeros((count, length), dtype=np.int64)
        token = np.zeros(count, dtype=np.int64)
        cell, state = np.zeros((2, count, self._hidden))
        for position in range(length):
            drive = weights.tokens[position, token] @ weights.input.T + weights.bias
            _, cell, state = _step(weights, drive, cell, state)
            logits = state @ weights.heads[position].T + weights.head_bias[position] + self._absent[position]
            below = np.exp(_log_softmax(logits)).cumsum(axis=-1)
            # Inverse transform sampling; rounding may leave the last cumulative sum below 1.
            token = np.minimum((below <= chances[position][:, None]).sum(axis=-1), self._counts[position] - 1)
            tokens[:, position] = token
        return tokens

    def forward(self, weights: ControllerWeights, tokens: Tokens) -> Forward:
        """Return log-probabilities and entropies of samples ``[samples, places]``."""
        samples, length = tokens.shape
        previous = np.zeros((length, samples), dtype=np.int64)
        previous[1:] = tokens.T[:-1]
        inputs = weights.tokens[np.arange(length)[:, None], previous]
        drive = inputs @ weights.input.T + weights.bias
        gates = np.empty((length, samples, 4 * self._hidden))
        cells, states = np.zeros((2, length + 1, samples, self._hidden))
        for position in range(length):
            gates[position], cells[position + 1], states[position + 1] = _step(
                weights, drive[position], cells[position], states[position]
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
        """Return the gradients of a scalar loss with respect to the weights.

        Args:
            weights: The weights of the forward pass.
            forward: The forward pass.
            to_log_probs: ``[samples, places]``, the loss's gradient with respect to the log-probabilities.
            to_entropies: ``[samples, places]``, the loss's gradient with respect to the entropies.
        """
        tape = forward.tape
        softmax = np.exp(tape.log_softmax)
        # d log p(chosen) / d logits = onehot - softmax; dH / d logits = -softmax * (log softmax + H).
        to_logits = to_log_probs.T[..., None] * (tape.chosen - softmax)
        to_logits -= to_entropies.T[..., None] * softmax * (tape.log_softmax + forward.entropies.T[..., None])
        to_states = to_logits @ weights.heads
        to_gates = np.empty_like(tape.gates)
        to_state, to_cell = np.zeros((2, *to_states.shape[1:]))
        # Backpropagation through time: cell' = forget * cell + input * new, state' = output * tanh(cell').
        for position in reversed(range(len(to_states))):
            input_gate, forget, new, output_gate = np.split(tape.gates[position], 4, axis=-1)
            squashed = np.tanh(tape.cells[position + 1])
            to_state = to_state + to_states[position]
            to_cell = to_cell + to_state * output_gate * (1 - squashed**2)
            to_gates[position] = np.concatenate(
                (
                    to_cell * new * input_gate * (1 - input_gate),
                    to_cell * tape.cells[position] * forget * (1 - forget),
                    to_cell * input_gate * (1 - new**2),
                    to_state * squashed * output_gate * (1 - output_gate),
                ),
                axis=-1,
            )
            to_cell = to_cell * forget
            to_state = to_gates[position] @ weights.state
        one_hot = (self._options == tape.previous[..., None]).astype(np.float64)
        return ControllerWeights(
            tokens=one_hot.transpose(0, 2, 1) @ (to_gates @ weights.input),
            input=np.tensordot(to_gates, tape.inputs, ((0, 1), (0, 1))),
            state=np.tensordot(to_gates, tape.states[:-1], ((0, 1), (0, 1))),
            bias=to_gates.sum(axis=(0, 1)),
            heads=to_logits.transpose(0, 2, 1) @ tape.states[1:],
            head_bias=to_logits.sum(axis=1),
        )


def _step(weights: ControllerWeights, drive: Array, cell: Array, state: Array) -> tuple[Array, Array, Array]:
    """Take one LSTM step: gates, cell and state; ``drive`` is the input's contribution to the gates."""
    size = state.shape[-1]
    gates = drive + state @ weights.state.T
    new = np.tanh(gates[:, 2 * size : 3 * size])
    # The logistic function by tanh, which never overflows.
    gates = 0.5 + 0.5 * np.tanh(0.5 * gates)
    gates[:, 2 * size : 3 * size] = new
    input_gate, forget, new, output_gate = (gates[:, part * size : (part + 1) * size] for part in range(4))
    cell = forget * cell + input_gate * new
    return gates, cell, output_gate * np.tanh(cell)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
